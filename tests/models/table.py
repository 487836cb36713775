#!/usr/bin/env python3
"""Models that people export, through both exporters of PyTorch, against PyTorch in float64: one JSON line a model and export.

usage: [KINDS="ts17 dynamo18"] [BATCH=3 RANGE=1..4] table.py CARGO_WPK DIR [NAME ...]

Needs torch, torchvision, timm, transformers, onnx, onnxscript; downloads nothing: weights are random. DIR takes the exports, which are
removed again. An export that PyTorch itself refuses is a line with `export` and the reason. Exports: the old exporter at opset 17 with a fixed and
a symbolic batch, the new one at opset 20 (with the batch symbolic) and 18; `ts17-tokens` has symbolic tokens too, where it is asked for, and `ts17-cache` and `dynamo20-cache` are
decoders with a cache of symbolic length (models NAME_cache). With RANGE the
symbolic dimensions are ranges, and requests of BATCH run in the plan of the next larger size; `exact` tells which run only at the plans' sizes. `gpu` tells why there is no plan for a GPU, where there is none.
"""
import json, os, subprocess, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch

torch.backends.mha.set_fastpath_enabled(False)
EXPORTS = {"ts17": (17, False, False), "ts17-batch": (17, False, True), "dynamo20-batch": (20, True, True), "dynamo18": (18, True, False)}
TOKENS = {"ts17-tokens": (17, False, True)}
CACHE = {"ts17-cache": (17, False, False), "dynamo20-cache": (20, True, False)}  # with RANGE: the cache is as long as a range says
PAST = 9
BATCH, RANGE = int(os.environ.get("BATCH", 2)), os.environ.get("RANGE")


def vision(name, size=64, **options):
    def make():
        import torchvision.models as M
        return getattr(M, name)(weights=None, **options), [torch.randn(BATCH, 3, size, size)]
    return make


def segmentation(name):
    def make():
        import torchvision.models.segmentation as S
        net = getattr(S, name)(weights=None, weights_backbone=None, aux_loss=False)

        class Out(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, x):
                return self.net(x)["out"]
        return Out(), [torch.randn(BATCH, 3, 64, 64)]
    return make


def timm_model(name, size=224, **options):
    def make():
        import timm
        return timm.create_model(name, pretrained=False, **options), [torch.randn(BATCH, 3, size, size)]
    return make


SMALL = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=300)


def text(config, model, *, cls=None, pick=0, mask=True, length=17, **options):
    """An encoder or decoder of token numbers, with a mask, that returns one tensor."""
    def make():
        import transformers as T
        net = getattr(T, model)(getattr(T, config)(**options))

        class Out(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, ids, mask):
                return self.net(input_ids=ids, attention_mask=mask, **(dict(use_cache=False) if cls == "decoder" else {}))[pick]
        ids = torch.randint(0, 300, (BATCH, length))
        keep = torch.ones(BATCH, length, dtype=torch.int64)
        if mask:
            keep[1, length - 4:] = 0
        return Out(), [ids, keep]
    return make


def cached(config, model, heads, **options):
    """A decoder that continues a cache of keys and values by one token."""
    def make():
        import transformers as T
        from transformers.cache_utils import DynamicCache
        settings = getattr(T, config)(**options)
        net = getattr(T, model)(settings)
        layers, width = settings.num_hidden_layers, settings.hidden_size // settings.num_attention_heads

        class Out(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, ids, mask, *past):
                cache = DynamicCache()
                for i in range(layers):
                    cache.update(past[2 * i], past[2 * i + 1], i)
                out = self.net(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
                return out.logits
        past = [torch.randn(BATCH, heads, PAST, width) for _ in range(2 * layers)]
        mask = torch.ones(BATCH, PAST + 1, dtype=torch.int64)
        mask[1, :2] = 0
        return Out(), [torch.randint(0, 300, (BATCH, 1)), mask, *past]
    return make


def other(make_net, inputs):
    """A model of transformers that takes its inputs by name and returns its first result."""
    def make():
        import transformers as T
        net, named = make_net(T), inputs()

        class Out(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, *args):
                return self.net(**dict(zip(named, args)))[0]
        return Out(), list(named.values())
    return make


WHISPER = dict(d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128,
               decoder_ffn_dim=128, vocab_size=300, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
               max_source_positions=50, begin_suppress_tokens=None)
LLAMA = dict(**SMALL, num_key_value_heads=2)

MODELS = {
    "alexnet": vision("alexnet", 224), "vgg11_bn": vision("vgg11_bn", 224), "resnet18": vision("resnet18"), "resnet50": vision("resnet50"),
    "resnext50_32x4d": vision("resnext50_32x4d"), "densenet121": vision("densenet121"), "inception_v3": vision("inception_v3", 96, init_weights=False, aux_logits=False),
    "googlenet": vision("googlenet", init_weights=False, aux_logits=False),
    "mobilenet_v2": vision("mobilenet_v2"), "mobilenet_v3_small": vision("mobilenet_v3_small"), "shufflenet_v2_x1_0": vision("shufflenet_v2_x1_0"),
    "squeezenet1_1": vision("squeezenet1_1"), "mnasnet1_0": vision("mnasnet1_0"), "efficientnet_b0": vision("efficientnet_b0"),
    "regnet_y_400mf": vision("regnet_y_400mf"), "convnext_tiny": vision("convnext_tiny"), "vit_b_16": vision("vit_b_16", 224),
    "swin_t": vision("swin_t", 224), "swin_v2_t": vision("swin_v2_t", 224), "maxvit_t": vision("maxvit_t", 224),
    "fcn_resnet50": segmentation("fcn_resnet50"), "lraspp_mobilenet_v3_large": segmentation("lraspp_mobilenet_v3_large"),
    "deit_tiny_patch16_224": timm_model("deit_tiny_patch16_224"), "mixer_s32_224": timm_model("mixer_s32_224"), "mobilevit_s": timm_model("mobilevit_s", 128),
    "levit_128s": timm_model("levit_128s"), "poolformer_s12": timm_model("poolformer_s12", 64), "ghostnet_100": timm_model("ghostnet_100", 64),
    "hrnet_w18_small": timm_model("hrnet_w18_small", 64), "repvgg_a0": timm_model("repvgg_a0", 64), "edgenext_xx_small": timm_model("edgenext_xx_small", 64),
    "pvt_v2_b0": timm_model("pvt_v2_b0", 64), "twins_svt_small": timm_model("twins_svt_small"), "xcit_nano_12_p16_224": timm_model("xcit_nano_12_p16_224"),
    "efficientvit_b0": timm_model("efficientvit_b0", 64), "fastvit_t8": timm_model("fastvit_t8", 64), "resnest14d": timm_model("resnest14d", 64),
    "coat_lite_tiny": timm_model("coat_lite_tiny"), "crossvit_tiny_240": timm_model("crossvit_tiny_240", 240), "nf_resnet50": timm_model("nf_resnet50", 64),
    "convmixer_768_32": timm_model("convmixer_768_32", 56), "tinynet_e": timm_model("tinynet_e", 64), "cait_xxs24_224": timm_model("cait_xxs24_224"),
    "bert": text("BertConfig", "BertModel", **SMALL), "distilbert": text("DistilBertConfig", "DistilBertModel", dim=64, n_layers=2, n_heads=4, hidden_dim=128, vocab_size=300),
    "roberta": text("RobertaConfig", "RobertaModel", **SMALL, pad_token_id=1), "albert": text("AlbertConfig", "AlbertModel", **SMALL, embedding_size=32),
    "electra": text("ElectraConfig", "ElectraModel", **SMALL, embedding_size=32), "mpnet": text("MPNetConfig", "MPNetModel", **SMALL, pad_token_id=1),
    "deberta_v2": text("DebertaV2Config", "DebertaV2Model", **SMALL, relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"]),
    "gpt2": text("GPT2Config", "GPT2LMHeadModel", cls="decoder", n_embd=64, n_layer=2, n_head=4, vocab_size=300, bos_token_id=0, eos_token_id=0),
    "llama": text("LlamaConfig", "LlamaForCausalLM", cls="decoder", **LLAMA), "qwen2": text("Qwen2Config", "Qwen2ForCausalLM", cls="decoder", **LLAMA),
    "mistral": text("MistralConfig", "MistralForCausalLM", cls="decoder", **LLAMA, head_dim=16), "gemma": text("GemmaConfig", "GemmaForCausalLM", cls="decoder", **LLAMA, head_dim=16),
    "opt": text("OPTConfig", "OPTForCausalLM", cls="decoder", hidden_size=64, num_hidden_layers=2, num_attention_heads=4, ffn_dim=128, vocab_size=300, word_embed_proj_dim=64),
    "gpt_neox": text("GPTNeoXConfig", "GPTNeoXForCausalLM", cls="decoder", **SMALL),
    "llama_cache": cached("LlamaConfig", "LlamaForCausalLM", 2, **LLAMA), "gpt2_cache": cached("GPT2Config", "GPT2LMHeadModel", 4, n_embd=64, n_layer=2, n_head=4, vocab_size=300, bos_token_id=0, eos_token_id=0),
    "t5_encoder": text("T5Config", "T5EncoderModel", d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=300),
    "whisper_encoder": other(lambda T: T.WhisperModel(T.WhisperConfig(**WHISPER)).encoder, lambda: dict(input_features=torch.randn(BATCH, 80, 100))),
    "whisper_decoder": other(lambda T: T.WhisperModel(T.WhisperConfig(**WHISPER)).decoder, lambda: dict(input_ids=torch.randint(0, 300, (BATCH, 7)), encoder_hidden_states=torch.randn(BATCH, 50, 64))),
    "wav2vec2": other(lambda T: T.Wav2Vec2Model(T.Wav2Vec2Config(**{**SMALL, "conv_dim": (32, 32, 32), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3), "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4})), lambda: dict(input_values=torch.randn(BATCH, 1600))),
    "clip_vision": other(lambda T: T.CLIPVisionModel(T.CLIPVisionConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=16)), lambda: dict(pixel_values=torch.randn(BATCH, 3, 64, 64))),
    "segformer": other(lambda T: T.SegformerForSemanticSegmentation(T.SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], decoder_hidden_size=32)), lambda: dict(pixel_values=torch.randn(BATCH, 3, 64, 64))),
}


def export(net, inputs, path, opset, dynamo, batch, kind):
    names, tokens = [f"in{i}" for i in range(len(inputs))], kind in TOKENS
    options = dict(opset_version=opset, input_names=names, output_names=["out"], dynamo=dynamo)
    if kind in CACHE and dynamo:
        past = torch.export.Dim("past", min=2, max=64)
        options["dynamic_shapes"] = (None, {1: past + 1}, tuple({2: past} for _ in inputs[2:]))
    elif kind in CACHE:
        options["dynamic_axes"] = {"in1": {1: "past + 1"}, **{n: {2: "past"} for n in names[2:]}}
    elif batch and dynamo:
        size = torch.export.Dim("batch", min=2, max=64)
        shapes = tuple({0: size} for _ in inputs)
        # Several inputs of a forward that takes any number of them count as one argument.
        options["dynamic_shapes"] = (shapes,) if any(p.kind == p.VAR_POSITIONAL for p in __import__("inspect").signature(net.forward).parameters.values()) and len(inputs) and net.forward.__code__.co_argcount == 1 else shapes
        named = net.forward.__code__.co_argcount - 1
        if named and net.forward.__code__.co_flags & 4:
            options["dynamic_shapes"] = (*shapes[:named], tuple(shapes[named:]))
    elif batch:
        options["dynamic_axes"] = {n: {0: "batch", 1: "tokens"} if tokens and x.dim() > 1 else {0: "batch"} for n, x in zip(names, inputs)}
    torch.onnx.export(net, tuple(inputs), path, verbose=False, **options)


def line(**fields):
    print(json.dumps(fields), flush=True)


def main():
    tool, folder, *names = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    for name in names or MODELS:
        torch.manual_seed(0)
        try:
            net, inputs = MODELS[name]()
        except Exception as error:
            line(model=name, made=str(error)[:200])
            continue
        net = net.eval()
        with torch.no_grad():
            wide = [x.double() if x.is_floating_point() else x for x in inputs]
            expected = net.double()(*wide).numpy()
            net = net.float()
        for kind, (opset, dynamo, batch) in {**EXPORTS, **TOKENS, **CACHE}.items():
            cache = name.endswith("_cache")
            none = kind in TOKENS and (cache or inputs[0].is_floating_point()) or kind in CACHE and not cache
            if none or kind not in os.environ.get("KINDS", " ".join(EXPORTS)).split():
                continue
            stem = os.path.join(folder, f"{name}-{kind}")
            try:
                with open(os.devnull, "w") as quiet:
                    saved = os.dup(1), os.dup(2)
                    os.dup2(quiet.fileno(), 1), os.dup2(quiet.fileno(), 2)
                    try:
                        with torch.no_grad():
                            export(net, inputs, stem + ".onnx", opset, dynamo, batch, kind)
                    finally:
                        os.dup2(saved[0], 1), os.dup2(saved[1], 2)
            except Exception as error:
                line(model=name, kind=kind, export=f"{type(error).__name__}: {error}".strip().replace("\n", " ")[:160])
                continue
            for i, x in enumerate(inputs):
                np.save(f"{stem}.in{i}.npy", x.numpy())
            np.save(stem + ".out64.npy", expected)
            start = time.time()
            command = [tool, "wpk", "verify", "--outputs", "--tolerance", "1e-4", stem + ".onnx"]
            length = inputs[0].shape[1] if inputs[0].dim() > 1 else 1
            sizes = [("batch", BATCH, RANGE), ("s0", BATCH, RANGE), ("tokens", length, RANGE and f"1..{1 << length.bit_length()}"), ("past", PAST, RANGE and "0..16")]
            for dim, size, room in sizes[3:] if kind in CACHE else sizes[:3] if kind in TOKENS else sizes[:2]:
                command += ["--dim", f"{dim}={room or size}"] + (["--at", f"{dim}={size}"] if room else [])
            done = subprocess.run(command, capture_output=True, text=True)
            exact = [l for l in done.stdout.splitlines() if "runs only at" in l]
            error = [l.split()[-1] for l in done.stdout.splitlines() if "relative error" in l]
            row = dict(model=name, kind=kind, error=float(error[0]) if error else None, seconds=round(time.time() - start, 2))
            if exact:
                row["exact"] = exact
            if done.returncode:
                row["refused"] = done.stderr.strip()[:1500]
            fixed = [a for dim, size, _ in sizes for a in ("--dim", f"{dim}={size}")]
            explained = subprocess.run([tool, "wpk", "explain", stem + ".onnx", *fixed, "--gpu", "sm_90a"], capture_output=True, text=True).stdout
            if "no plan for sm_90a:" in explained:
                row["gpu"] = explained.split("no plan for sm_90a:")[1].strip()[:600]
            line(**row)
            for file in os.listdir(folder):
                if file.startswith(f"{name}-{kind}."):
                    os.remove(os.path.join(folder, file))


main()
