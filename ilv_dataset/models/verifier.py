"""From the string that names a verifier to the verifier."""

from __future__ import annotations

from collections.abc import Callable

from ilv_dataset.errors import ConfigError
from ilv_dataset.ledgers import Spent
from ilv_dataset.models.chat import ChatOptions
from ilv_dataset.models.protocols import Verifier

VERIFIERS = ("none", "agreement", "vlm:MODEL")


def check_verifier(spec: str) -> None:
    """Raises: ConfigError where `spec` is none of VERIFIERS."""
    name, _, model = spec.partition(":")
    if spec not in VERIFIERS and not (name == "vlm" and model):
        raise ConfigError(f"no verifier {spec!r}; expected one of {', '.join(VERIFIERS)}")


def load_verifier(
    spec: str,
    *,
    chat: ChatOptions | None,
    cache: str,
    on_spent: Callable[[Spent], None] = lambda _: None,
) -> Verifier | None:
    """Loads the verifier that `spec` names, one of VERIFIERS; None: crops are not looked at.

    Args:
        chat: where and how a vision-language model is asked; None for the others.
        cache: the folder in which its replies are kept.
        on_spent: told now and then what the model has been asked so far.

    Raises: ConfigError if there is no such verifier, or its endpoint cannot be used.
    """
    check_verifier(spec)
    if spec == "none":
        return None
    if spec == "agreement":
        from ilv_dataset.models.agreement import AgreementVerifier

        return AgreementVerifier()
    from ilv_dataset.models.vlm import VlmVerifier

    chat = chat or ChatOptions(spec.partition(":")[2])
    return VlmVerifier(chat, spec=spec, cache=cache, on_spent=on_spent)
