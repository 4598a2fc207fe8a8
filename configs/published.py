"""What papers report, by protocol: copied from them, never measured here; reports show it beside.

Scores are in %, mean and standard deviation over seeds (None where the paper gives none).
"""

from typing import Any

from configs.data import PROTOCOLS

_AKORN = "arXiv 2410.13821"
_SLOT_ATTENTION = "arXiv 2006.15055"
_EFFICIENT_MORL = "arXiv 2106.03849"
_CLEVRTEX = "arXiv 2111.10265, as quoted by Baltaci and Aubry (2026)"
_FG_ARI_AND_MBO = ("fg_ari", "mbo")
_FG_ARI_AND_MIOU = ("fg_ari", "miou_clevrtex")
_FG_ARI = ("fg_ari",)
_BOARDS = ("board_accuracy",)
_DTI_SPRITES = "arXiv 2104.14575"
_CLASSES = ("class_acc", "class_miou")
_PRECISION = ("ap_inf", "ap_1", "ap_0.5", "ap_0.25", "ap_0.125")

# (protocol, source, names of the scores, method: scores)
_TABLES: list[tuple[str, str, tuple[str, ...], dict[str, list[tuple[float, float | None]]]]] = [
    (
        "tetrominoes:akorn",
        _AKORN,
        _FG_ARI_AND_MBO,
        {
            "ItrConv": [(59.0, 2.9), (51.6, 2.2)],
            "AKOrN, convolutional": [(76.4, 0.8), (51.9, 1.5)],
            "ItrSA": [(85.8, 0.8), (54.9, 3.4)],
            "AKOrN, attentive": [(88.6, 1.7), (56.4, 0.9)],
            "AKOrN, attentive, up-tiling 4": [(93.1, 0.3), (56.3, 0.0)],
        },
    ),
    (
        "multi_dsprites:akorn",
        _AKORN,
        _FG_ARI_AND_MBO,
        {
            "ItrConv": [(29.1, 6.2), (38.5, 5.2)],
            "AKOrN, convolutional": [(63.8, 7.7), (50.7, 4.7)],
            "ItrSA": [(68.1, 1.4), (63.0, 1.2)],
            "AKOrN, attentive": [(78.3, 1.3), (63.0, 1.8)],
            "AKOrN, attentive, up-tiling 4": [(87.1, 1.0), (60.2, 1.9)],
        },
    ),
    (
        "clevr6:akorn",
        _AKORN,
        _FG_ARI_AND_MBO,
        {
            "ItrConv": [(49.3, 5.1), (29.7, 3.0)],
            "AKOrN, convolutional": [(59.0, 4.3), (44.4, 2.0)],
            "ItrSA": [(82.5, 1.7), (39.4, 1.9)],
            "AKOrN, attentive": [(91.0, 0.5), (45.5, 1.4)],
            "AKOrN, attentive, up-tiling 4": [(94.6, 0.7), (44.7, 0.7)],
        },
    ),
    (
        "clevrtex_full:clevrtex",
        _AKORN,
        _FG_ARI_AND_MBO,
        {
            "ViT": [(46.4, 0.6), (25.1, 0.7)],
            "ItrSA, one block": [(65.7, 0.3), (44.6, 0.9)],
            "ItrSA, two blocks": [(76.3, 0.4), (48.5, 0.1)],
            "AKOrN, one layer": [(75.6, 0.2), (55.0, 0.0)],
            "AKOrN, two layers": [(80.5, 1.5), (54.9, 0.6)],
            "AKOrN, two layers, up-tiling 4": [(87.7, 1.0), (55.3, 2.1)],
            "AKOrN, large, up-tiling 4": [(88.5, 0.9), (59.7, 0.9)],
        },
    ),
    (
        "clevrtex_outd:clevrtex",
        _AKORN,
        _FG_ARI_AND_MBO,
        {
            "ViT": [(44.1, 0.5), (27.2, 0.5)],
            "ItrSA, one block": [(64.6, 0.8), (45.1, 0.4)],
            "ItrSA, two blocks": [(74.9, 0.8), (46.4, 0.5)],
            "AKOrN, one layer": [(73.4, 0.4), (56.1, 1.1)],
            "AKOrN, two layers": [(79.2, 1.2), (55.7, 0.5)],
            "AKOrN, two layers, up-tiling 4": [(85.2, 0.9), (55.6, 1.5)],
            "AKOrN, large, up-tiling 4": [(87.7, 0.5), (60.8, 0.6)],
        },
    ),
    (
        "clevrtex_camo:clevrtex",
        _AKORN,
        _FG_ARI_AND_MBO,
        {
            "ViT": [(32.5, 0.6), (16.1, 1.1)],
            "ItrSA, one block": [(49.0, 0.7), (30.2, 0.8)],
            "ItrSA, two blocks": [(61.9, 1.3), (37.1, 0.5)],
            "AKOrN, one layer": [(59.9, 0.1), (44.3, 0.9)],
            "AKOrN, two layers": [(67.7, 1.5), (46.2, 0.9)],
            "AKOrN, two layers, up-tiling 4": [(74.5, 1.2), (45.6, 3.4)],
            "AKOrN, large, up-tiling 4": [(77.0, 0.5), (53.4, 0.7)],
        },
    ),
    (
        "sudoku_satnet:akorn",
        _AKORN,
        _BOARDS,
        {
            "Transformer": [(98.6, 0.3)],
            "ItrSA, T = 32": [(95.7, 8.5)],
            "AKOrN, T = 128": [(100.0, 0.0)],
            "AKOrN, T = 128, K = 100": [(100.0, 0.0)],
            "AKOrN, T = 128, K = 4096": [(100.0, 0.0)],
        },
    ),
    (
        "sudoku_rrn:akorn",
        _AKORN,
        _BOARDS,
        {
            "Transformer": [(5.2, 0.2)],
            "ItrSA, T = 32": [(34.4, 5.4)],
            "AKOrN, T = 128": [(51.7, 3.3)],
            "AKOrN, T = 128, K = 100": [(81.6, 1.5)],
            "AKOrN, T = 128, K = 4096": [(89.5, 2.5)],
        },
    ),
    (
        "clevr10:clevrtex",
        _CLEVRTEX,
        _FG_ARI_AND_MIOU,
        {
            "MONet": [(54.5, 11.4), (30.7, 14.9)],
            "GENESIS-V2": [(57.9, 20.4), (9.5, 0.6)],
            "SPAIR": [(77.1, 1.9), (66.0, 4.0)],
            "GNM": [(65.1, 4.2), (59.9, 3.7)],
            "Slot Attention": [(95.9, 2.4), (36.6, 24.8)],
            "IODINE": [(93.8, 0.8), (45.1, 17.9)],
            "Efficient MORL": [(93.3, 3.2), (50.2, 22.6)],
        },
    ),
    ("tetrominoes:slot_attention", _SLOT_ATTENTION, _FG_ARI, {"Slot Attention": [(99.5, 0.2)]}),
    ("multi_dsprites:slot_attention", _SLOT_ATTENTION, _FG_ARI, {"Slot Attention": [(91.3, 0.3)]}),
    ("clevr6:slot_attention", _SLOT_ATTENTION, _FG_ARI, {"Slot Attention": [(98.8, 0.3)]}),
    (
        "tetrominoes:slot_attention",
        _DTI_SPRITES,
        _CLASSES,
        {"DTI-Sprites": [(99.5, None), (99.2, None)]},
    ),
    (
        "multi_dsprites:slot_attention",
        _DTI_SPRITES,
        _CLASSES,
        {"DTI-Sprites": [(91.3, None), (84.0, None)]},
    ),
    (
        "clevr6:slot_attention",
        _DTI_SPRITES,
        _CLASSES,
        {"DTI-Sprites": [(79.3, None), (64.2, None)]},
    ),
    (
        "clevr:slot_attention",
        _SLOT_ATTENTION,
        _PRECISION,
        {"Slot Attention": [(94.3, None), (86.7, None), (56.0, None), (10.8, None), (0.9, None)]},
    ),
    (
        "clevr6:efficient_morl",
        _EFFICIENT_MORL,
        _FG_ARI,
        {"IODINE": [(98.8, 0.0)], "Efficient MORL": [(96.2, 1.6)]},
    ),
    (
        "multi_dsprites:iodine",
        _EFFICIENT_MORL,
        _FG_ARI,
        {"IODINE": [(76.7, 5.6)], "Efficient MORL": [(91.2, 0.4)]},
    ),
    (
        "tetrominoes:iodine",
        _EFFICIENT_MORL,
        _FG_ARI,
        {"IODINE": [(99.2, 0.4)], "Efficient MORL": [(98.2, 1.8)]},
    ),
]
# Datasets on which a model is tested that was trained by another protocol.
TESTED_TOO = {
    "clevrtex_full:clevrtex": ("clevrtex_outd:clevrtex", "clevrtex_camo:clevrtex"),
    "sudoku_satnet:akorn": ("sudoku_rrn:akorn",),
}


def published(key: str) -> tuple[dict[str, Any], ...]:
    """`config.published` of a protocol of configs/data.py; empty where no paper is copied.

    Each entry has its method, its source, its dataset, and scores in [0, 1] as (mean, std).
    """
    entries = []
    for protocol, source, names, methods in _TABLES:
        if protocol not in (key, *TESTED_TOO.get(key, ())):
            continue
        for method, row in methods.items():
            scores = {
                name: (round(mean / 100, 5), None if std is None else round(std / 100, 5))
                for name, (mean, std) in zip(names, row, strict=True)
            }
            dataset = PROTOCOLS[protocol]["name"]
            entries.append({"method": method, "source": source, "dataset": dataset, **scores})
    return tuple(entries)
