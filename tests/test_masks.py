"""Masks: areas, bounding boxes, and run lengths that pycocotools reads."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from ilv_dataset.masks import (
    NO_MASK,
    FrameMasks,
    cut_logits,
    cut_mask,
    decode_rle,
    encode_rle,
    mask_areas_px,
    mask_boxes_xyxy,
)

L_SHAPE = np.array([[0, 1, 0], [0, 1, 1]], bool)


def test_mask_areas_px_of_each_mask():
    masks = np.stack([L_SHAPE, np.zeros_like(L_SHAPE)])
    assert mask_areas_px(masks).tolist() == [3, 0]
    assert mask_areas_px(np.zeros((0, 4, 4), bool)).tolist() == []


def test_mask_boxes_xyxy_have_an_exclusive_max_edge_and_are_zero_when_empty():
    masks = np.stack([L_SHAPE, np.zeros_like(L_SHAPE)])
    assert mask_boxes_xyxy(masks).tolist() == [[1, 0, 3, 2], [0, 0, 0, 0]]
    assert mask_boxes_xyxy(np.zeros((0, 4, 4), bool)).shape == (0, 4)


def test_frame_masks_keep_what_lies_around_a_mask_and_give_it_back():
    window = cut_mask(np.pad(L_SHAPE, 1), left_top=(4, 5))
    assert (window.left_top, window.shape) == ((6, 6), (2, 2))
    masks = FrameMasks([window, NO_MASK], size_wh=(10, 12))
    assert (len(masks), masks.shape) == (2, (2, 12, 10))
    assert masks[0].dtype == bool
    assert np.argwhere(masks[0]).tolist() == [[6, 6], [7, 6], [7, 7]]
    assert [mask.sum() for mask in masks] == [3, 0]
    assert np.asarray(masks).shape == (2, 12, 10)
    with pytest.raises(IndexError):
        masks[2]


def test_frame_masks_of_some_rows_and_their_areas():
    masks = FrameMasks.of(np.stack([L_SHAPE, np.zeros_like(L_SHAPE), ~L_SHAPE]))
    assert masks.areas_px().tolist() == [3, 0, 3]
    assert np.asarray(masks.take(np.array([2, 0]))).tolist() == [
        (~L_SHAPE).tolist(),
        L_SHAPE.tolist(),
    ]
    assert masks.take(np.array([], np.int64)).shape == (0, 2, 3)


@pytest.mark.parametrize("size_wh", [(90, 61), (8, 6), (50, 200), (1, 1), (5, 3)])
def test_cut_logits_are_what_opencv_enlarges_within_the_box(size_wh):
    rng = np.random.default_rng(0)
    width, height = size_wh
    for shape in ((6, 8), (1, 1), (1, 5), (30, 40)):
        logits = rng.normal(size=shape).astype(np.float32)
        x0, y0 = rng.uniform(0, [width / 2, height / 2])
        x1, y1 = rng.uniform([width / 2, height / 2], size_wh)
        whole = cv2.resize(logits, size_wh, interpolation=cv2.INTER_LINEAR) > 0
        inside = np.zeros_like(whole)
        inside[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)] = True
        window = cut_logits(logits, size_wh=size_wh, box=(x0, y0, x1, y1))
        (mask,) = FrameMasks([window], size_wh=size_wh)
        np.testing.assert_array_equal(mask, whole & inside)


def test_cut_logits_of_a_box_worked_out_by_hand():
    # Enlarged twofold: -3 -2 0 1, at a quarter and three quarters between the two.
    logits = np.array([[-3.0, 1.0]], np.float32)
    window = cut_logits(logits, size_wh=(4, 2), box=(1.2, 0.5, 4, 1))
    assert (window.left_top, window.mask.tolist()) == ((3, 0), [[True]])
    assert cut_logits(-np.abs(logits), size_wh=(4, 2), box=(0, 0, 4, 2)).shape == (0, 0)


@pytest.mark.parametrize("box", [(3, 0, 1, 2), (4, 0, 4, 2), (0, 2, 4, 1), (0, 0, 0, 0)])
def test_cut_logits_of_a_box_without_an_inside(box):
    window = cut_logits(np.ones((2, 2), np.float32), size_wh=(4, 2), box=box)
    assert not np.asarray(FrameMasks([window], size_wh=(4, 2))).any()


def test_frame_masks_of_no_prompt_or_of_a_hidden_thing():
    assert np.asarray(FrameMasks([], size_wh=(10, 12))).shape == (0, 12, 10)
    assert cut_mask(np.zeros((3, 4), bool), left_top=(7, 8)).shape == (0, 0)
    assert not FrameMasks([cut_mask(np.zeros((3, 4), bool))], size_wh=(4, 3))[0].any()


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_a_cut_mask_is_the_whole_one(mask):
    masks = FrameMasks([cut_mask(mask)], size_wh=(mask.shape[1], mask.shape[0]))
    np.testing.assert_array_equal(masks[0], mask)


def test_encode_rle_writes_cocos_counts_column_by_column():
    # Columns from the left: 0 0, 1 1, 0 1: runs 2 0s, 2 1s, 1 0, 1 1.
    assert encode_rle(L_SHAPE) == '{"size": [2, 3], "counts": "221O"}'


def test_encode_rle_is_read_by_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    assert coco.decode(json.loads(encode_rle(L_SHAPE))).tolist() == [[0, 1, 0], [0, 1, 1]]


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_decode_rle_returns_what_was_encoded(mask):
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"size": [2], "counts": "6"}',
        '{"size": [2, 3], "counts": "5"}',
        '{"size": [2, 3], "counts": "6o"}',
        '{"size": [2, 3], "counts": "\\u00e9"}',
        '{"size": [2, 3], "counts": "zzzzzzzzzzzzzzzz"}',
        '{"size": [90000, 90000], "counts": "6"}',
        '{"size": [-2, -3], "counts": "6"}',
    ],
)
def test_decode_rle_refuses_what_is_not_a_mask(text):
    with pytest.raises(ValueError, match=r"mask"):
        decode_rle(text)
