"""Images with classes, from small files in the published formats that other code writes."""

import gzip
import hashlib
import io
import pickle
import struct
import sys
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from datasets import cifar, cifar10_c, mnist_idx, small_norb
from datasets.contact_sheet import contact_sheet
from datasets.errors import DatasetError
from datasets.prepare import prepare

RNG = np.random.default_rng(0)


def prepared(name, tmp_path, raw_dir=None, **options):
    """Splits as lists of records."""
    prepare(name, tmp_path / "data", raw_dir=raw_dir, **options)
    builder = tfds.builder(name, data_dir=tmp_path / "data")
    return {split: list(builder.as_data_source(split=split)) for split in builder.info.splits}


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def assert_records(records, images, **fields):
    """Records hold images `[N, H, W]` or `[N, H, W, 3]` and the fields."""
    assert len(records) == len(images)
    for i, record in enumerate(records):
        image = images[i] if images[i].ndim == 3 else np.stack([images[i]] * 3, axis=-1)
        assert record["image"].dtype == np.uint8
        np.testing.assert_array_equal(record["image"], image)
        assert record.keys() == {"image", *fields}
        for name, values in fields.items():
            assert record[name].dtype == np.uint8
            assert record[name] == values[i], name


def assert_refused(name, tmp_path, raw_dir, match):
    with pytest.raises(DatasetError, match=match) as info:
        prepare(name, tmp_path / "refused", raw_dir=raw_dir)
    assert "\n" not in str(info.value)
    assert not list((tmp_path / "refused").rglob("*.json"))


# --- MNIST and Fashion-MNIST


def write_idx(path, array):
    """As LeCun's page describes the format."""
    header = b"\x00\x00\x08" + bytes([array.ndim])
    for length in array.shape:
        header += length.to_bytes(4, "big")
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def mnist_dir(tmp_path, monkeypatch):
    """(directory, the arrays by file) with few images, whose MD5 stand for the published."""
    directory = tmp_path / "raw"
    directory.mkdir()
    arrays = {}
    for prefix, count in (("train", 5), ("t10k", 3)):
        arrays[f"{prefix}-images-idx3-ubyte.gz"] = RNG.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte.gz"] = RNG.integers(0, 10, count).astype(np.uint8)
    for name, array in arrays.items():
        write_idx(directory / name, array)
    sums = {name: md5(directory / name) for name in arrays}
    monkeypatch.setattr(mnist_idx, "_MD5", {"mnist": sums, "fashion_mnist": sums})
    return directory, arrays


@pytest.mark.parametrize("kind", ["mnist", "fashion_mnist"])
def test_mnist(tmp_path, mnist_dir, kind):
    directory, arrays = mnist_dir
    splits = prepared(f"mnist_idx/{kind}", tmp_path, directory)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = arrays[f"{prefix}-images-idx3-ubyte.gz"]
        assert_records(splits[split], images, label=arrays[f"{prefix}-labels-idx1-ubyte.gz"])


def test_first_records_of_each_split(tmp_path, mnist_dir):
    splits = prepared("mnist_idx/mnist", tmp_path, mnist_dir[0], max_records=4)
    assert {split: len(records) for split, records in splits.items()} == {"train": 4, "test": 3}
    first = (tmp_path / "data/mnist_idx/mnist/1.0.0/dataset_info.json").stat().st_ino
    prepared("mnist_idx/mnist", tmp_path, mnist_dir[0], max_records=3)
    assert (tmp_path / "data/mnist_idx/mnist/1.0.0/dataset_info.json").stat().st_ino == first
    assert len(prepared("mnist_idx/mnist", tmp_path, mnist_dir[0])["train"]) == 5


def test_damaged_idx_files_are_named(tmp_path, mnist_dir, monkeypatch):
    directory, arrays = mnist_dir
    name = "train-images-idx3-ubyte.gz"
    assert_refused(
        "mnist_idx/mnist", tmp_path, tmp_path, "there is neither .*train-images.*; get http"
    )
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[:-9])
    assert_refused("mnist_idx/mnist", tmp_path, directory, f"{name}: its MD5 is .*, published is")
    # Right sums of wrong contents are no files of anyone's, but must not be read as if they were.
    monkeypatch.setattr("datasets.labelled._verify", lambda path, file: None)
    assert_refused("mnist_idx/mnist", tmp_path, directory, f"{name}: no gzip file, or cut short")
    (directory / name).write_bytes(gzip.compress(gzip.decompress(content)[:-1]))
    assert_refused("mnist_idx/mnist", tmp_path, directory, "3919 bytes for")
    write_idx(directory / name, arrays[name][:, :, :27])
    assert_refused("mnist_idx/mnist", tmp_path, directory, "expected .'N', 28, 28.")
    write_idx(directory / name, arrays["train-labels-idx1-ubyte.gz"])
    assert_refused("mnist_idx/mnist", tmp_path, directory, "begins with 00000801")
    (directory / name).write_bytes(content)
    write_idx(directory / "train-labels-idx1-ubyte.gz", np.full(5, 10, np.uint8))
    assert_refused("mnist_idx/mnist", tmp_path, directory, "labels from 10 to 10, expected 0 to 9")
    write_idx(directory / "train-labels-idx1-ubyte.gz", np.zeros(4, np.uint8))
    assert_refused("mnist_idx/mnist", tmp_path, directory, "has 4 labels of 5 images")


# --- CIFAR


def python2_pickle(batch):
    """A dict of byte strings, lists of small integers and arrays of bytes, in the opcodes that
    Python 2 and NumPy 1 wrote."""

    def string(value):
        return b"U" + bytes([len(value)]) + value

    def array(value):
        content = value.tobytes()
        rows, columns = (b"M" + struct.pack("<H", length) for length in value.shape)
        reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        dtype += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        state = b"(K\x01" + rows + columns + b"\x86" + dtype + b"\x89"
        return reconstruct + state + b"T" + struct.pack("<i", len(content)) + content + b"tb"

    def value_of(value):
        if isinstance(value, bytes):
            return string(value)
        if isinstance(value, list):
            return b"](" + b"".join(b"K" + bytes([number]) for number in value) + b"e"
        return array(value)

    items = b"".join(string(name) + value_of(value) for name, value in batch.items())
    return b"\x80\x02}(" + items + b"u."


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-batches/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def cifar_batch(count, kind):
    labels = {"label": RNG.integers(0, int(kind), count).astype(np.uint8)}
    if kind == "100":
        labels = {"coarse_label": RNG.integers(0, 20, count).astype(np.uint8), **labels}
    return RNG.integers(0, 256, (count, 3, 32, 32), np.uint8), labels


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("kind", ["10", "100"])
def test_cifar(tmp_path, monkeypatch, kind, version):
    names = cifar._BINARY[kind] if version == "binary" else cifar._PICKLED[kind]
    files, expected = {"batches.meta": b"not read"}, {}
    for split, members in names.items():
        batches = [cifar_batch(2, kind) for _ in members]
        for member, (pixels, labels) in zip(members, batches, strict=True):
            if version == "binary":
                records = np.column_stack([*labels.values(), pixels.reshape(2, -1)])
                files[member] = records.astype(np.uint8).tobytes()
            else:
                keys = cifar._KEYS[kind]
                columns = {keys[name]: values.tolist() for name, values in labels.items()}
                batch = {b"data": pixels.reshape(2, -1), b"batch_label": b"one of many", **columns}
                files[member] = python2_pickle(batch)
        expected[split] = [np.concatenate(arrays) for arrays in zip(*(
            (pixels, *labels.values()) for pixels, labels in batches), strict=True)]  # fmt: skip
    path = tmp_path / f"cifar-{kind}-{version}.tar.gz"
    write_tar(path, files)
    monkeypatch.setattr(cifar, "_MD5", {**cifar._MD5, path.name: md5(path)})
    splits = prepared(f"cifar/{kind}", tmp_path, tmp_path)
    for split, (pixels, *columns) in expected.items():
        fields = dict(zip(cifar._NUM_CLASSES[kind], columns, strict=True))
        assert_records(splits[split], pixels.transpose(0, 2, 3, 1), **fields)
    assert contact_sheet(f"cifar/{kind}", tmp_path / "data", tmp_path / "sheet.png").exists()


def test_pickles_of_todays_numpy():
    """What somebody wrote anew: the same arrays under other module names."""
    data = RNG.integers(0, 256, (2, 3072), np.uint8)
    content = pickle.dumps({b"data": np.asfortranarray(data), b"labels": [1, 2]}, protocol=4)
    batch = cifar.unpickle("cifar-10-python.tar.gz", content)
    np.testing.assert_array_equal(batch[b"data"], data)
    assert batch[b"labels"] == [1, 2]


class Malicious:
    def __reduce__(self):
        return (print, ("ran code of the file",))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (pickle.dumps({b"data": Malicious()}), "names builtins.print"),
        (pickle.dumps(np.float64(1)), "names numpy"),
        (pickle.dumps({b"data": np.zeros((1, 3072))}), "an array of b'f8', expected bytes"),
        (pickle.dumps([1]), "no pickle of CIFAR's"),
        (b"\x80\x02}(", "no pickle of CIFAR's"),
        (b"", "no pickle of CIFAR's"),
    ],
)
def test_pickles_run_nothing(capsys, content, match):
    with pytest.raises(DatasetError, match=match):
        cifar.unpickle("cifar-10-python.tar.gz", content)
    assert not capsys.readouterr().out


def test_damaged_archives_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.labelled._verify", lambda path, file: None)
    path = tmp_path / "cifar-10-binary.tar.gz"
    members = [*cifar._BINARY["10"]["train"], *cifar._BINARY["10"]["test"]]
    write_tar(path, dict.fromkeys(members[:-2], bytes(3073)))
    assert_refused("cifar/10", tmp_path, tmp_path, "has no data_batch_5.bin")
    write_tar(path, dict.fromkeys(members, bytes(3072)))
    assert_refused("cifar/10", tmp_path, tmp_path, "15360 bytes are no whole records of 3073")
    write_tar(path, dict.fromkeys(members, b"\x0a" + bytes(3072)))
    assert_refused("cifar/10", tmp_path, tmp_path, "labels from 10 to 10, expected 0 to 9")
    path.write_bytes(path.read_bytes()[:200])
    assert_refused("cifar/10", tmp_path, tmp_path, "no tar.gz, or cut short")
    path.unlink()
    python = tmp_path / "cifar-10-python.tar.gz"
    batch = python2_pickle({b"data": np.zeros((1, 3000), np.uint8), b"labels": [1]})
    write_tar(python, dict.fromkeys((name.removesuffix(".bin") for name in members), batch))
    assert_refused("cifar/10", tmp_path, tmp_path, "data are uint8 .5, 3000., expected")


# --- CIFAR-10-C


def write_corrupted(directory, images, labels):
    """As the published archive has them."""
    directory.mkdir(exist_ok=True)
    np.save(directory / "fog.npy", images)
    np.save(directory / "labels.npy", labels)


@pytest.mark.parametrize("packed", [True, False])
def test_cifar10_c(tmp_path, monkeypatch, packed):
    images = RNG.integers(0, 256, (10, 32, 32, 3), np.uint8)
    labels = np.tile(np.array([3, 9], np.uint8), 5)
    write_corrupted(tmp_path / "CIFAR-10-C", images, labels)
    files = sorted((tmp_path / "CIFAR-10-C").glob("*.npy"))
    if packed:
        with tarfile.open(tmp_path / "CIFAR-10-C.tar", "w") as tar:
            for file in files:
                tar.add(file, f"CIFAR-10-C/{file.name}")
                file.unlink()
        files = [tmp_path / "CIFAR-10-C.tar"]
    sums = {file.name: md5(file) for file in files}
    monkeypatch.setattr(cifar10_c, "_MD5", {**cifar10_c._MD5, **sums})
    splits = prepared("cifar10_c/fog", tmp_path, tmp_path)
    assert splits.keys() == {"test"}
    severity = np.repeat(np.arange(1, 6), 2).astype(np.uint8)
    assert_records(splits["test"], images, label=labels, severity=severity)


def test_damaged_corruptions_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.labelled._verify", lambda path, file: None)
    name, images, labels = "cifar10_c/fog", np.zeros((5, 32, 32, 3), np.uint8), np.zeros(5, "u1")
    assert_refused(name, tmp_path, tmp_path, "there is neither .*CIFAR-10-C.tar.*; get http")
    folder = tmp_path / "CIFAR-10-C"
    write_corrupted(folder, images[:, :31], labels)
    assert_refused(name, tmp_path, tmp_path, "images are uint8 .5, 31, 32, 3., expected uint8")
    write_corrupted(folder, images[:4], labels[:4])
    assert_refused(name, tmp_path, tmp_path, "4 images are not of 5 kinds")
    write_corrupted(folder, images, labels + 10)
    assert_refused(name, tmp_path, tmp_path, "labels from 10 to 10, expected 0 to 9")
    (folder / "labels.npy").write_bytes(b"no array")
    assert_refused(name, tmp_path, tmp_path, "labels.npy: holds no npy array")
    with tarfile.open(tmp_path / "CIFAR-10-C.tar", "w") as tar:
        tar.add(folder / "fog.npy", "CIFAR-10-C/fog.npy")
    assert_refused(name, tmp_path, tmp_path, "CIFAR-10-C.tar: has no labels.npy")
    (tmp_path / "CIFAR-10-C.tar").write_bytes(b"nothing")
    assert_refused(name, tmp_path, tmp_path, "no tar, or cut short")


# --- smallNORB


def write_mat(path, array):
    """NORB's binary format, as its page describes it."""
    magic = {"u1": 0x1E3D4C55, "i4": 0x1E3D4C54}[array.dtype.str[1:]]
    lengths = [*array.shape, *[1] * (3 - array.ndim)]
    content = struct.pack(f"<ii{len(lengths)}i", magic, array.ndim, *lengths) + array.tobytes()
    path.write_bytes(gzip.compress(content))


def test_small_norb(tmp_path, monkeypatch):
    raw_dir, sums, arrays = tmp_path / "norb-v1.0-small", {}, {}
    raw_dir.mkdir()
    for split, stem in small_norb._STEMS.items():
        columns = [RNG.integers(0, high, 3) for high in (10, 9, 18, 6)]
        columns[2] *= 2  # as published: 0, 2, ..., 34
        arrays[split] = {
            "dat": RNG.integers(0, 256, (3, 2, 96, 96), np.uint8),
            "cat": RNG.integers(0, 5, 3).astype("<i4"),
            "info": np.column_stack(columns).astype("<i4"),
        }
        sums[split] = {}
        for name, array in arrays[split].items():
            path = raw_dir / f"{stem}-{name}.mat.gz"
            write_mat(path, array)
            sums[split][name] = md5(path)
    monkeypatch.setattr(small_norb, "_MD5", sums)
    splits = prepared("small_norb/official", tmp_path, tmp_path)
    for split, found in arrays.items():
        info = dict(zip(small_norb._INFO, found["info"].repeat(2, axis=0).T, strict=True))
        assert_records(
            splits[split],
            found["dat"].reshape(6, 96, 96),
            label=found["cat"].repeat(2),
            eye=[0, 1] * 3,
            **info,
        )
    monkeypatch.setattr("datasets.labelled._verify", lambda path, file: None)
    path = raw_dir / f"{small_norb._STEMS['train']}-cat.mat.gz"
    for wrong, match in (
        (np.zeros(3, np.uint8), "a matrix of type 507333717, rank 1 and shape"),
        (np.zeros((3, 2), "<i4"), "rank 2 and shape"),
        (np.zeros(2, "<i4"), "has 2 labels of 3 images"),
        (np.full(3, 5, "<i4"), "labels from 5 to 5, expected 0 to 4"),
    ):
        write_mat(path, wrong)
        assert_refused("small_norb/official", tmp_path, tmp_path, match)
    path.write_bytes(gzip.compress(b"\x54\x4c\x3d\x1e"))
    assert_refused("small_norb/official", tmp_path, tmp_path, "4 bytes are too few")
    path = raw_dir / f"{small_norb._STEMS['train']}-info.mat.gz"
    write_mat(raw_dir / f"{small_norb._STEMS['train']}-cat.mat.gz", arrays["train"]["cat"])
    write_mat(path, np.full((3, 4), 36, "<i4"))
    assert_refused("small_norb/official", tmp_path, tmp_path, "does not describe 3 pairs")


# --- digits


def test_digits(tmp_path, monkeypatch):
    splits = prepared("digits/official", tmp_path)
    digits = load_digits()
    assert set(splits) == {"train"}
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)
    assert images.max() == 255
    assert_records(splits["train"], images, label=digits.target)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match="sklearn"):
        prepare("digits/official", tmp_path / "other")
    prepare("digits/official", tmp_path / "data")  # what is prepared needs it no more
