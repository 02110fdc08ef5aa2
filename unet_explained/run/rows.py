"""Whose each row of a batch is: its role by the call's texts, its picture by the sample's rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..recording import Row, Text
from ..recording.identity import ROLES
from .calls import Call, plain


def rows_of(
    call: Call | None,
    texts: Sequence[Text | None],
    contents: Sequence[str | None],
    sample: Tensor,
    context: Tensor,
) -> tuple[Row, ...]:
    """contents: of rows that no text encoder made. sample: the latents, without what is beside."""
    if call is None:
        return tuple(Row(text, None, None, content) for text, content in zip(texts, contents))
    roles = _roles(call, texts, context)
    pictures = _pictures(call, texts, roles, sample)
    rows = list[Row]()
    for text, content, role, picture in zip(texts, contents, roles, pictures):
        row, number = Row(text, picture, role, content), 1
        while picture is not None and role and row in rows:
            number += 1
            row = row._replace(role=f"{role}#{number}")
        rows.append(row)
    return tuple(rows)


def belongs(call: Call, rows: Sequence[Row]) -> bool:
    """Whether a forward may be the call's own: inside it others may run, of texts of their own."""
    known = [row for row in rows if row.text and row.text.text]
    return not known or any(
        row.role or _among(row.text, call.strings) or row.text.tokens in call.read
        for row in known if row.text
    )  # fmt: skip


def _roles(call: Call, texts, context: Tensor) -> list[str | None]:
    """By what the call was given: a text or embeddings of one role alone."""
    found = []
    for text, row in zip(texts, context):
        roles = [
            role for role in ROLES
            if (text and _among(text, call.texts[role])) or _is_among(row, call.embeddings[role])
        ]  # fmt: skip
        if text and not text.tokens and not roles:
            roles = [ROLES[1]]  # zeros
        found.append(roles[0] if len(roles) == 1 else None)
    return found


def _is_among(row: Tensor, embeddings: list[Tensor]) -> bool:
    return any(
        part.ndim == 3 and part.shape[1:] == row.shape and (part.to(row) == row).all((1, 2)).any()
        for part in embeddings
    )


def _pictures(call: Call, texts, roles: list[str | None], sample: Tensor) -> list[int | None]:
    """As the call returns them: in order where there are as many rows as pictures; else rows of
    one text and one sample are of one picture; None where that leaves a choice."""
    pictures: list[int | None] = [None] * len(texts)
    count = len(call.prompts)
    by_role = {role: [i for i, one in enumerate(roles) if one == role] for role in ROLES}
    alike = [] if all(len(own) in (0, count) for own in by_role.values()) else _first_alike(sample)
    for role, own in by_role.items():
        if len(own) == count:
            for number, i in enumerate(own):
                pictures[i] = number
        elif own and role == ROLES[0]:
            _by_text(call, texts, own, alike, pictures)
        elif own:
            for i in own:
                same = {pictures[j] for j in by_role[ROLES[0]] if alike[j] == alike[i]}
                pictures[i] = same.pop() if len(same) == 1 else None
    return pictures


def _by_text(call: Call, texts, own: list[int], alike: list[int], pictures: list) -> None:
    for text in dict.fromkeys(texts[i] for i in own):
        rows = [i for i in own if texts[i] == text]
        groups = list(dict.fromkeys(alike[i] for i in rows))
        asked = [n for n, said in enumerate(call.prompts) if text and said and _among(text, [said])]
        if None in call.prompts and len(groups) == len(call.prompts):
            asked = list(range(len(groups)))
        if len(groups) == len(asked):
            for i in rows:
                pictures[i] = asked[groups.index(alike[i])]
        elif len(rows) == len(asked):
            for number, i in zip(asked, rows):
                pictures[i] = number


def _among(text: Text, written: Sequence[str]) -> bool:
    """Whether it is one of these; of one that is cut off, what comes after that does not count."""
    if text.cut_off.strip():
        end = len(text.text) - len(text.cut_off)
        return any(plain(one[:end]) == plain(text.text[:end]) for one in written)
    return any(plain(one) == plain(text.text) for one in written)


def _first_alike(sample: Tensor) -> list[int]:
    """Of each row the first that is equal to it."""
    flat = sample.flatten(1)
    equal = torch.stack([(flat == row).all(dim=1) for row in flat])
    return equal.long().argmax(dim=1).tolist()
