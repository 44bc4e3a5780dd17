"""Stack traces as Python prints them, between ordinary lines."""
import logging
import sys
import threading
import traceback

logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", datefmt="2026-01-02 03:04:05")
log = logging.getLogger("shop")


class Declined(Exception):
    pass


def charge(card):
    try:
        return {}[card]
    except KeyError as err:
        raise Declined("card is not known\nask for another") from err


def order():
    try:
        charge("4711")
    except Declined:
        return 1 / 0


log.warning("begins")
try:
    charge("4711")
except Declined:
    log.exception("an order was declined")
log.warning("goes on")
try:
    order()
except ZeroDivisionError:
    traceback.print_exc()
print("one more line", file=sys.stderr)
try:
    compile("def f(:\n", "rules.py", "exec")
except SyntaxError:
    traceback.print_exc(limit=0)
print("before the group", file=sys.stderr)
try:
    raise ExceptionGroup("two at once", [ValueError("first"), KeyError("second")])
except ExceptionGroup:
    traceback.print_exc()
print("a thread dies", file=sys.stderr)
t = threading.Thread(target=order, name="worker")
t.start()
t.join()
print("the end", file=sys.stderr)
order()
