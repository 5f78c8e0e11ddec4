"""Sends a finished export to the Hugging Face hub."""

from pathlib import Path

from ..errors import HubError, MissingExtraError, first_line

ADVICE = "make a token that may write, and give it by `hf auth login` or HF_TOKEN"


def require_way(repo: str) -> None:
    """Raise before any work is done if a push cannot succeed: a name that the hub refuses, or no token.

    Raises:
        HubError: With what to do.
        MissingExtraError: If huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import get_token
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
    except ImportError:
        raise MissingExtraError("--push-to-hub needs huggingface-hub; pip install huggingface-hub") from None
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise HubError(f"--push-to-hub must be ORG/NAME, not {repo!r} ({first_line(error)})") from None
    if "/" not in repo:
        raise HubError(f"--push-to-hub must be ORG/NAME, not {repo!r}; ORG may be your own name there")
    if get_token() is None:
        raise HubError(f"nobody is logged in to the Hugging Face hub; {ADVICE}")


def push(folder: Path, repo: str, files: list[str]) -> str:
    """Send the files of an export to a repository, which is made, private, where there is none; return its address.

    Raises:
        HubError: If the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="crossteach")
    try:
        made = api.create_repo(repo, exist_ok=True, private=True)
        api.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            allow_patterns=files,
            commit_message="Student exported by crossteach",
        )
    except Exception as error:  # the hub's client raises what its HTTP library does, and that has changed by release
        raise HubError(
            f"{folder} is whole, but was not sent to {repo} ({first_line(error)}); the same command tries again, "
            f"once the hub can be reached and your token may write there"
        ) from error
    return str(made)
