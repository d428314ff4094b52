"""A folder of images as data: one folder a class."""

from pathlib import Path

import numpy as np
import torch

from .data import Part, Split, split_rows

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
PARTS = ("train", "val", "test")
SHARES = (0.1, 0.2)  # of val and test, where the folder is not split


def classes_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def load_folder(folder: Path, image_size: int | None = None) -> Split:
    """FOLDER/class/*.png, split 70 : 10 : 20 with the classes in the same shares; or
    FOLDER/train, FOLDER/val and FOLDER/test, each with the same classes.

    Images become RGB, 0 to 1, in memory.

    Raises:
        ValueError: for no class, an image that cannot be read, or sizes that differ.
    """
    names = classes_of(folder)
    if set(names) >= set(PARTS):
        classes = classes_of(folder / "train")
        return Split(*(_read(folder / part, classes, image_size) for part in PARTS))
    whole = _read(folder, names, image_size)
    val, test = (round(share * len(whole)) for share in SHARES)
    rows = split_rows(whole.labels.numpy(), len(whole) - val - test, val, test)
    return Split(*(whole[torch.from_numpy(part)] for part in rows))


def _read(folder: Path, classes: list[str], image_size: int | None) -> Part:
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).glob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise ValueError(f"{folder} must hold a folder of images for each class, got none")
    images = [_image(path, image_size) for path, _ in files]
    for image, (path, _) in zip(images, files, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"images must have one size, got {images[0].shape[1::-1]} and {image.shape[1::-1]} "
                f"({path}): give an image size"
            )
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Part(stacked, torch.tensor([label for _, label in files]))


def _image(path: Path, size: int | None) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32) / 255
