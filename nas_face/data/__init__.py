"""Faces on disk and what is made of them: images, identities, pairs, batches (no torch)."""

from nas_face.data.bundled import load_orl
from nas_face.data.faces import FaceImages, SkippedImage
from nas_face.data.formats.convert import Conversion, convert
from nas_face.data.formats.folders import IMAGE_SUFFIXES, load_folder
from nas_face.data.formats.lfw_pairs import load_lfw_pairs
from nas_face.data.formats.opening import list_faces, list_pairs, load_faces, load_pairs
from nas_face.data.formats.pair_csv import load_pair_csv
from nas_face.data.images import decode_image
from nas_face.data.listing import FaceListing, PairListing
from nas_face.data.pairs import PairList, all_pairs
from nas_face.data.pixels import DEFAULT_CACHE_BYTES
from nas_face.data.split import IdentitySplit, split_identities

__all__ = [
    "DEFAULT_CACHE_BYTES",
    "IMAGE_SUFFIXES",
    "Conversion",
    "FaceImages",
    "FaceListing",
    "IdentitySplit",
    "PairList",
    "PairListing",
    "SkippedImage",
    "all_pairs",
    "convert",
    "decode_image",
    "list_faces",
    "list_pairs",
    "load_faces",
    "load_folder",
    "load_lfw_pairs",
    "load_orl",
    "load_pair_csv",
    "load_pairs",
    "split_identities",
]
