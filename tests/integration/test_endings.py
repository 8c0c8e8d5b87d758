"""How texts end, how tokens attend, how vectors are pooled: real llama.cpp, and what is said about each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_gguf import write_tiny_bert, write_tiny_decoder

from ragops.embedder.advice import model_advice
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.errors import ModelUnusable
from ragops.facts import ModelFacts
from ragops.fingerprint.compare import Comparison, compare_fingerprints
from ragops.fingerprint.document import Fingerprint, capture, fingerprint_of
from ragops.fingerprint.trials import explain
from ragops.playbook.model import Model
from ragops.quality.spaces import SpaceLimits

EOS = "<|endoftext|>"
TEXT = "water and fire"
LIMITS = SpaceLimits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("endings")


@pytest.fixture(scope="module")
def without_eos(folder: Path) -> Path:
    return write_tiny_decoder(folder / "without.gguf", pooling="last", eos=EOS, layers=2)


@pytest.fixture(scope="module")
def with_eos(folder: Path) -> Path:
    return write_tiny_decoder(folder / "with.gguf", pooling="last", eos=EOS, add_eos=True, layers=2)


def config(path: Path, settings: Model | None = None) -> EmbedderConfig:
    asked = settings or Model()
    return EmbedderConfig(
        path,
        pooling=asked.pooling,
        attention=asked.attention,
        document_suffix=asked.document_suffix,
        query_suffix=asked.query_suffix,
        tokens_per_batch=1,
    )


def take(path: Path, settings: Model | None = None) -> Fingerprint:
    suffix = settings.document_suffix if settings else ""
    with Embedder(config(path, settings)) as embedder:
        return capture(embedder, document_prefix="", query_prefix="", document_suffix=suffix)


def facts(path: Path, settings: Model | None = None) -> ModelFacts:
    with Embedder(config(path, settings)) as embedder:
        return embedder.model


def causes(comparison: Comparison) -> list[str]:
    return [finding.id for finding in comparison.findings]


def test_a_suffix_is_the_token_that_another_file_adds_by_itself(without_eos: Path, with_eos: Path) -> None:
    with Embedder(config(without_eos)) as bare, Embedder(config(with_eos)) as ended:
        assert (bare.model.ends_with, bare.model.end_token) == ("", EOS)
        assert ended.model.ends_with == EOS
        own, others = bare.embed([TEXT], suffix=EOS), ended.embed([TEXT])
        assert np.array_equal(own.vectors, others.vectors)
        assert own.tokens == others.tokens == (bare.count_tokens([TEXT])[0] + 1,)
        assert bare.count_tokens([TEXT], suffix=EOS) == [len(ids) for ids in bare.tokenise([TEXT], suffix=EOS)]
        # A document that contains the markup is text, as it was.
        assert bare.count_tokens([TEXT + EOS])[0] > own.tokens[0] + 5


def test_a_suffix_stands_before_what_the_tokenizer_adds(tmp_path: Path) -> None:
    with Embedder(config(write_tiny_bert(tmp_path / "bert.gguf"))) as embedder:
        plain, ended = embedder.tokenise(["water"])[0], embedder.tokenise(["water"], suffix=" fire [MASK]")[0]
        assert ended[-1] == plain[-1]  # [SEP]
        fire = embedder.tokenise(["water fire"])[0]
        assert ended[: len(fire) - 1].tolist() == fire[:-1].tolist()
        assert len(ended) == len(fire) + 1
        assert embedder.tokenise(["water"], suffix=" fire")[0].tolist() == fire.tolist()


def test_the_suffix_and_the_attention_are_part_of_the_space(without_eos: Path) -> None:
    def id_of(**settings: str) -> str:
        asked = Model.model_validate(settings)
        with Embedder(config(without_eos, asked)) as embedder:
            return fingerprint_of(embedder.build, embedder.model, asked, sha256="0").fingerprint_id

    ids = [id_of(), id_of(document_suffix=EOS), id_of(query_suffix=EOS), id_of(attention="non-causal")]
    assert len(set(ids)) == 4
    # What the model does anyway is no other space.
    assert id_of(attention="causal") == ids[0]


def test_ids_without_a_suffix_are_those_of_earlier_versions(without_eos: Path) -> None:
    model = facts(without_eos)
    with Embedder(config(without_eos)) as embedder:
        identity = fingerprint_of(embedder.build, model, Model(), sha256="0").document["identity"]
    assert set(identity) == {"build", "model", "query_prefix", "document_prefix", "normalisation"}  # type: ignore[call-overload]
    assert "attention" not in identity["model"]  # type: ignore[index]


def test_attention_moves_a_decoder_and_cannot_be_causal_in_an_encoder(without_eos: Path, tmp_path: Path) -> None:
    own, other = take(without_eos), take(without_eos, Model(attention="non-causal"))
    comparison = compare_fingerprints(own, other, limits=LIMITS)
    assert (comparison.verdict, causes(comparison)) == ("divergent", ["attention"])
    assert comparison.findings[0].hint == "set model.attention: non-causal"
    bert = write_tiny_bert(tmp_path / "bert.gguf")
    assert facts(bert).attention == "non-causal"
    assert facts(bert, Model(attention="non-causal")).attention_is_changed is False
    with pytest.raises(ModelUnusable, match="cannot be causal"):
        Embedder(config(bert, Model(attention="causal")))


def test_a_file_with_another_end_is_not_another_model(without_eos: Path, with_eos: Path) -> None:
    comparison = compare_fingerprints(take(without_eos), take(with_eos), limits=LIMITS)
    assert causes(comparison)[0] == "ending"
    assert "another-model" not in causes(comparison)
    first = comparison.findings[0]
    assert first.message == f"texts end with no end-of-sequence token (EOS), the reference's with {EOS}"
    assert f'model.document_suffix: "{EOS}"' in first.hint
    ended = compare_fingerprints(take(without_eos, Model(document_suffix=EOS)), take(with_eos), limits=LIMITS)
    assert (ended.verdict, causes(ended)) == ("identical", [])


@pytest.mark.parametrize(
    ("theirs", "finding", "hint"),
    [
        ("eos", "ending", f'set model.document_suffix: "{EOS}"   and model.query_suffix: "{EOS}"'),
        ("non-causal", "attention", "set model.attention: non-causal"),
        ("non-causal mean", "attention", "set model.attention: non-causal   and set model.pooling: mean"),
    ],
)
def test_a_server_that_returns_only_vectors(
    theirs: str, finding: str, hint: str, without_eos: Path, with_eos: Path
) -> None:
    pooling = "mean" if "mean" in theirs else "auto"
    other = (
        take(with_eos)
        if theirs == "eos"
        else take(without_eos, Model.model_validate({"attention": "non-causal", "pooling": pooling}))
    )
    explained = explain(config(without_eos), Model(), take(without_eos), other.vectors, limits=LIMITS)
    assert explained is not None
    assert (explained.id, explained.hint) == (finding, hint)


def test_a_server_that_leaves_eos_out(without_eos: Path, with_eos: Path) -> None:
    explained = explain(config(with_eos), Model(), take(with_eos), take(without_eos).vectors, limits=LIMITS)
    assert explained is not None
    assert "do not end with" in explained.message


def advice(path: Path, **settings: str) -> dict[str, str]:
    asked = Model.model_validate(settings)
    return {finding.id: finding.hint for finding in model_advice(asked, facts(path, asked))}


def test_last_token_pooling_without_eos_is_said(without_eos: Path, with_eos: Path) -> None:
    both = f'model.document_suffix: "{EOS}"   and   model.query_suffix: "{EOS}"'
    assert both in advice(without_eos)["eos-missing"]
    one = advice(without_eos, document_suffix=EOS)
    assert set(one) == {"eos-missing"} and "document" not in one["eos-missing"]
    assert advice(without_eos, document_suffix=EOS, query_suffix=EOS) == {}
    assert set(advice(with_eos, document_suffix=EOS)) == {"suffix-twice"}
    assert "suffix-is-text" in advice(without_eos, document_suffix="<|endoftxt|>")


def test_other_models_are_told_nothing(without_eos: Path, with_eos: Path) -> None:
    for model in (replace(facts(without_eos), pooling="mean"), facts(with_eos)):
        assert list(model_advice(Model(), model)) == []


@pytest.mark.parametrize("add_eos", [None, False, True])
def test_what_the_tokenizer_does_counts(add_eos: bool | None, tmp_path: Path) -> None:
    path = write_tiny_decoder(tmp_path / "d.gguf", pooling="last", add_eos=add_eos)
    with Embedder(config(path)) as embedder:
        does = embedder.tokenise(["a"])[0][-1] == 2
        assert embedder.model.ends_with == ("</s>" if does else "")
    assert ("eos-missing" in advice(path)) is not does


def test_a_guessed_pooling_is_said_to_be_guessed(without_eos: Path, tmp_path: Path) -> None:
    path = write_tiny_decoder(tmp_path / "chat.gguf")
    assert facts(path).pooling == "last"
    assert advice(path)["pooling-guessed"].startswith("model.pooling: last   in the playbook")
    assert "pooling-guessed" not in advice(path, pooling="last")
    assert "pooling-guessed" not in advice(without_eos)


def test_the_token_for_what_a_vocabulary_cannot_spell(tmp_path: Path, without_eos: Path) -> None:
    with Embedder(config(write_tiny_bert(tmp_path / "bert.gguf"))) as embedder:
        unknown = embedder.model.unknown_token
        assert unknown == 1
        thai = embedder.tokenise(["สวัสดีครับ ผม"])[0].tolist()
        assert thai[1:-1] == [unknown, unknown]
    with Embedder(config(without_eos)) as embedder:
        # Its signs are spelt in bytes, which keep what they are.
        assert embedder.model.unknown_token not in embedder.tokenise(["สวัสดี"])[0].tolist()
