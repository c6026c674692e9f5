"""Reading a recipe's objective."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from training.errors import RecipeError

Objective = TypeVar("Objective", bound=BaseModel)


def read_objective(kind: type[Objective], values: dict[str, Any]) -> Objective:
    """Check the objective of a recipe.

    Raises:
        RecipeError: A key is unknown or a value is wrong; all faults are named.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RecipeError(f"the recipe's objective is wrong: {faults}") from error
