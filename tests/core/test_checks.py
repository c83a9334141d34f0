"""Names that a run may have."""

import pytest

from limo_ray.core.checks import check_folder_name


@pytest.mark.parametrize("name", [".", "..", "", "a/b", ".hidden", "a\nb", "x" * 201])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name: "):
        check_folder_name(name)


@pytest.mark.parametrize("name", ["laptop", "limo v1.2", "größe", "a..b"])
def test_other_names_are_fine(name: str) -> None:
    check_folder_name(name)
