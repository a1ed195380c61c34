"""Upload a release, or list what would go: the manifest and the files that it names."""

from commonroot.artifact import MANIFEST, Artifact
from commonroot.errors import FetchError, UsageError
from commonroot.verify import verify

__all__ = ["publish"]


def publish(release: Artifact, repo: str, push: bool, private: bool = True) -> list[str]:
    """Send the release to the model repository `repo` (owner/name); returns lines to print.

    Without `push` nothing is sent and no network is used. A repository that does not exist yet is
    made, `private` or not. run.json, which tells when and for how long this machine worked, stays.
    Raises ArtifactError if the release does not verify, UsageError for a bad name or without a
    token, FetchError if the hub cannot be reached or refuses.
    """
    _check_name(repo)
    verify(release.path)
    names = [*sorted(release.manifest["files"]), MANIFEST]
    sizes = {name: (release.path / name).stat().st_size for name in names}
    lines = [f"{size:>14,}  {name}" for name, size in sizes.items()]
    lines.append(
        f"{sum(sizes.values()):>14,}  bytes in {len(names)} files, digest {release.digest}"
    )
    if not push:
        return [*lines, f"dry run: nothing was sent to {repo}; PUSH=1 uploads"]
    return [*lines, f"uploaded: {_upload(release, repo, names, private)}"]


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError:
        repo = ""
    if repo.count("/") != 1:
        raise UsageError("a repository is owner/name, of letters, digits, - _ and .: set REPO")


def _upload(release: Artifact, repo: str, names: list[str], private: bool) -> str:
    from httpx import HTTPError
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    token = get_token()
    if not token:
        raise UsageError("no token for the hub: `hf auth login`, or set HF_TOKEN, then again")
    api = HfApi(token=token)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=release.path,
            allow_patterns=names,
            commit_message=f"commonroot release {release.digest[:12]}",
        )
    except OfflineModeIsEnabled:
        raise FetchError("HF_HUB_OFFLINE is set: unset it to upload") from None
    except HfHubHTTPError as error:
        reason = str(error.server_message or error).strip().splitlines()[0]
        raise FetchError(f"the hub refused {repo}: {reason[:200]}") from None
    except (OSError, HTTPError) as error:
        raise FetchError(f"the hub cannot be reached ({type(error).__name__}): try again") from None
    return str(commit.commit_url)
