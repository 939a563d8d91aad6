"""Memory of large results is used again only when nobody holds it."""

import numpy as np

from dgraph.kernels.results import KEPT, SMALLEST, result_maker


def test_what_is_held_is_never_given_out_again():
    make = result_maker((SMALLEST,), np.dtype("float64"))
    held = [make() for _ in range(3 * KEPT)]
    places = {array.__array_interface__["data"][0] for array in held}
    assert len(places) == len(held)


def test_what_is_free_is_used_again():
    make = result_maker((SMALLEST,), np.dtype("float64"))
    first = make()
    place = first.__array_interface__["data"][0]
    del first
    assert make().__array_interface__["data"][0] == place


def test_a_view_keeps_its_memory():
    make = result_maker((SMALLEST, 2), np.dtype("float32"))
    first = make()
    first[...] = 1
    part = first[3:5, 1]
    del first
    other = make()
    other[...] = 2
    assert (part == 1).all()


def test_small_results_own_their_memory():
    assert result_maker((3,), np.dtype("float64"))().base is None
