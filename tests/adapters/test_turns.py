"""Threads that share a session take turns, and nobody waits for ever."""

import contextlib
import threading
import time

from tasks.turns import Turns


def test_turns_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order = Turns(), list[int]()

    def take(number: int) -> None:
        with turns:
            order.append(number)

    with turns:
        threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        assert order == []
    for thread in threads:
        thread.join(timeout=5)
    assert order == list(range(8))


def test_one_who_asks_again_at_once_lets_the_others_go_first() -> None:
    turns, order, both_ready = Turns(), list[str](), threading.Barrier(2)

    def greedy() -> None:
        both_ready.wait()
        for _ in range(200):
            with turns:
                order.append("greedy")
                time.sleep(0.001)

    def modest() -> None:
        both_ready.wait()
        time.sleep(0.01)
        with turns:
            order.append("modest")

    threads = [threading.Thread(target=greedy), threading.Thread(target=modest)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert "greedy" in order[order.index("modest") + 1 :]


def test_an_error_during_a_turn_ends_it() -> None:
    turns, taken = Turns(), threading.Event()

    def fail() -> None:
        with contextlib.suppress(ValueError), turns:
            raise ValueError

    def take() -> None:
        with turns:
            taken.set()

    fail()
    threading.Thread(target=take, daemon=True).start()
    assert taken.wait(timeout=5)
