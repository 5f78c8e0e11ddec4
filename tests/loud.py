"""Tutors that differ in what they know and in how loud they say it."""

import torch


def answers(count, skills, loud, classes=10, seed=0):
    """Make tutors with a skill each, and a loudness that has nothing to do with it; each knows classes of its own."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=rng)
    tutors = []
    for skill, scale in zip(skills, loud, strict=True):
        strength = skill * (
            0.5 + torch.rand(classes, generator=torch.Generator().manual_seed(int(100 * skill)))[labels]
        )
        noise = torch.randn(count, classes, generator=rng)
        tutors.append(scale * (noise + 2 * strength[:, None] * torch.eye(classes)[labels]))
    return torch.stack(tutors), labels
