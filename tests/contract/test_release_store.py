"""Where servers fetch releases: what every store promises, and that nothing of it is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_release.errors import ArtifactRefused, ReleaseRefused
from fraud_release.release_store import (
    BucketStore,
    FolderStore,
    ReleaseStore,
    fetch_release,
    open_store,
    publish_release,
)
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.key_files import public_text
from fraud_scoring.releases import existing
from support.release import empty_repository
from support.release_stores import BUCKET, TRUST, bucket, write_release_by_name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with releases 1 and 2; not to be changed."""
    repository = empty_repository(tmp_path_factory.mktemp("made") / "models")
    for content in (b"one", b"two"):
        write_release_by_name(repository, content)
    return repository


@pytest.fixture(scope="module")
def buckets() -> Iterator[str]:
    with bucket() as url:
        yield url


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ReleaseStore:
    """An empty store."""
    if request.param == "folder":
        return open_store(f"folder://{tmp_path}/store")
    return open_store(f"{request.getfixturevalue('buckets')}/{tmp_path.name}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return empty_repository(tmp_path / "models")


def contents(repository: Path) -> dict[str, bytes]:
    return {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def spoil(store: ReleaseStore, name: str, content: bytes) -> None:
    """Put a file into what the store holds of release 1."""
    if isinstance(store, FolderStore):
        path = store._root / "r0001" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    else:
        import boto3

        assert isinstance(store, BucketStore)
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{store._prefix}r0001/{name}", Body=content)


def test_a_release_arrives_as_it_was_published_and_under_its_name_last(
    store: ReleaseStore, made: Path, repository: Path
) -> None:
    assert store.releases() == []
    publish_release(made, 1, store, TRUST)
    publish_release(made, 2, store, TRUST)
    assert store.releases() == [1, 2]
    assert fetch_release(repository, 2, store, TRUST)
    assert existing(repository) == [2]
    assert contents(repository).items() <= contents(made).items()
    assert (repository / "fraud_r0002" / "1").is_dir()
    assert not fetch_release(repository, 2, store, TRUST)


def test_a_release_that_is_there_is_never_written_again(store: ReleaseStore, made: Path) -> None:
    publish_release(made, 1, store, TRUST)
    with pytest.raises(ReleaseRefused, match="r0001 is in the store already"):
        publish_release(made, 1, store, TRUST)


def test_what_is_not_signed_by_a_pinned_key_is_neither_published_nor_fetched(
    store: ReleaseStore, made: Path, repository: Path
) -> None:
    stranger = replace(TRUST, public_keys=(public_text(Ed25519PrivateKey.generate()),))
    with pytest.raises(ArtifactRefused):
        publish_release(made, 1, store, stranger)
    assert store.releases() == []
    publish_release(made, 1, store, TRUST)
    with pytest.raises(ArtifactRefused):
        fetch_release(repository, 1, store, stranger)
    assert existing(repository) == []


@pytest.mark.parametrize("name", ["fraud_model_r0001/1/model.onnx", "fraud_r0001/manifest.json"])
def test_a_file_that_was_changed_in_the_store_is_refused_and_nothing_is_left_of_it(
    store: ReleaseStore, made: Path, repository: Path, name: str
) -> None:
    publish_release(made, 1, store, TRUST)
    before = sorted(path.name for path in repository.iterdir())
    spoil(store, name, b"{}")
    with pytest.raises(ArtifactRefused, match="r0001"):
        fetch_release(repository, 1, store, TRUST)
    left = sorted(path.name for path in repository.iterdir() if not path.name.startswith("."))
    assert left == before


@pytest.mark.parametrize("name", ["fraud_model_r0001/1/more.py", "fraud_decision_r0001/../../escape"])
def test_a_file_that_was_added_in_the_store_is_refused(
    store: ReleaseStore, made: Path, repository: Path, name: str
) -> None:
    publish_release(made, 1, store, TRUST)
    spoil(store, name, b"print()")
    if isinstance(store, FolderStore) and ".." in name:
        assert fetch_release(repository, 1, store, TRUST)  # beside the release, and nobody looked
        return
    with pytest.raises(ReleaseRefused):
        fetch_release(repository, 1, store, TRUST)
    assert existing(repository) == []


def test_a_release_that_is_missing_is_named_with_what_puts_it_there(store: ReleaseStore, repository: Path) -> None:
    with pytest.raises(ReleaseUnavailable, match=r"r0007 is not in the release store.*fraudctl release publish r0007"):
        fetch_release(repository, 7, store, TRUST)


def test_half_an_upload_is_no_release(store: ReleaseStore, repository: Path) -> None:
    spoil(store, "fraud_model_r0001/1/model.onnx", b"graph")
    assert store.releases() == []
    with pytest.raises(ReleaseUnavailable):
        fetch_release(repository, 1, store, TRUST)


def test_a_bucket_that_does_not_answer_is_told_so(monkeypatch: pytest.MonkeyPatch, buckets: str) -> None:
    assert buckets
    with pytest.raises(ReleaseUnavailable, match=r"the release store does not answer: .*NoSuchBucket"):
        open_store("s3://nobodys/production").releases()


@pytest.mark.parametrize(
    "url", ["releases", "http://host/releases", "folder://host/releases", "folder:releases", "s3://"]
)
def test_a_url_that_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidDefinition, match=r"write s3://bucket/prefix or folder:///path"):
        open_store(url)
