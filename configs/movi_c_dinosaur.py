"""DINOSAUR on frames of MOVi-C (arXiv 2209.14860), as in the study of arXiv 2407.04170.

    python launch.py --config=configs/movi_c_dinosaur.py --config.init_from.path=FILE
    python launch.py --config=configs/movi_c_dinosaur.py:weighted_sum --config.init_from.path=FILE
    python launch.py --config=configs/movi_c_dinosaur.py:batch_norm   # ... and so on: what slots
    python launch.py --config=configs/movi_c_dinosaur.py:layer_norm   # make of what they win
    python launch.py --config=configs/movi_c_dinosaur.py:implicit     # one-step gradient
    python launch.py --config=configs/movi_c_dinosaur.py:vit_s8       # the smaller encoder
    python launch.py --config=configs/movi_c_dinosaur.py:features     # computed once, see below

FILE holds the encoder's weights: dino_vitbase8_pretrain.pth or, for `:vit_s8`,
dino_deitsmall8_pretrain.pth of github.com/facebookresearch/dino, the same from timm
(vit_base_patch8_224.dino) or from Hugging Face (facebook/dino-vitb8), as .pth or .safetensors.
Data: gs://kubric-public/tfds/movi_c/256x256 is downloaded, or is read from config.data.raw_dir.

11 slots of 128, three iterations; ViT-B/8 at 224 pixels, 784 features of 768 after the final norm.
500,000 steps of 64 frames; the rate rises to 4e-4 in 10,000 steps and halves every 100,000 after
them; gradients are clipped to norm 1. One GPU of 40 GB; --config.model.encoder_dtype=bfloat16 runs
the encoder at twice the speed. Scored at 224 pixels on the validation videos (eval.split), by the
decoder's masks and by the slots' attention. Krimmel et al. report figures, which are not copied.

More slots or iterations than in training: --config.eval.options.num_slots=21.

Departure: the encoder runs in the loop. As in the reference, `:features` computes its float16
features once (--mode=prepare does nothing else and can be interrupted): 282 GB for all frames, 47
GB with --config.data.name=movi/c_256_every6. Features of another encoder are refused.

    python launch.py --config=configs/movi_c_dinosaur.py:procedural   # on ClevrTex-like scenes
    python launch.py --config=configs/movi_c_dinosaur.py:small,procedural

`:small` has a ViT of 8 patches a side and few steps, to try the machinery on a CPU; without
weights its features are those of a random network, of which little can be learned.
configs/tetrominoes_dinosaur.py learns on a CPU.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import dinosaur


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, (*dinosaur.VARIANTS, "vit_s8", "small"))
    encoder = dinosaur.VIT_S8 if "vit_s8" in chosen else dinosaur.VIT_B8
    small = {}
    if "small" in chosen:
        encoder = {**encoder, "image_size": 64, "width": 48, "depth": 2, "heads": 3}
        small = {
            "grid": (8, 8),
            "slot_size": 32,
            "hidden_size": 64,
            "decoder_size": 64,
        }
    config = dinosaur.explain_features(
        "movi_c:krimmel", chosen, encoder=encoder, feature_size=encoder["width"], **small
    )
    config.data.loading = "stream"
    if "small" in chosen:
        config.num_steps = 200
        config.batch_size = 16
        config.optimizer.warmup_steps = 20
        config.eval.batch_size = 16
        config.data.train, config.data.validation, config.data.test = (128, 640), None, (0, 128)
        config.data.max_records = 640
    return config
