"""A Modbus TCP device (pymodbus): modbus_device.py PORT [GARBAGE_SEED]; or one at a serial line (RTU): modbus_device.py pty, which says
"at PATH", where the other end of its line is. Each function that somebody writes with is a line on stderr.

With a seed most of its answers are noise: other lengths, other bytes, several frames at once.
"""
import os
import random
import select
import struct
import sys
import threading
import tty

from pymodbus.server import StartSerialServer, StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

noise = random.Random(int(sys.argv[2])) if len(sys.argv) > 2 else None


def trace(sending, data):
    if sys.argv[1] == "pty":
        if not sending and len(data) > 3 and data[1] in (5, 6, 15, 16, 22, 23):
            print(f"write by {data[1]} at {struct.unpack('>H', data[2:4])[0]}", file=sys.stderr)
        return data
    if not sending and len(data) > 7 and data[7] in (5, 6, 15, 16, 22, 23):
        print(f"write by {data[7]} at {struct.unpack('>H', data[8:10])[0]}", file=sys.stderr)
    if sending and noise and noise.random() < 0.7:
        kind = noise.randrange(4)
        if kind == 0:
            return noise.randbytes(noise.randrange(1, 300))
        if kind == 1:
            return data[:noise.randrange(1, len(data))]
        if kind == 2:
            return data[:8] + noise.randbytes(noise.randrange(0, 260))
        return data + noise.randbytes(40)
    return data


def words(form, *values):
    raw = struct.pack(f">{len(values)}{form}", *values)
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


holding = [215, 0xFFF6] + words("I", 100_000) + words("f", 1.5) + words("f", float("nan")) + [0x0005, 50, 7, 0, 0, 0]
low_first = words("i", -70_000)
holding[11:13] = [low_first[1], low_first[0]]
inputs = [1000 + i for i in range(300)]
bits = [True, False] * 8
device = SimDevice(1, simdata=(
    [SimData(0, values=bits, datatype=DataType.BITS)],
    [SimData(0, values=bits, datatype=DataType.BITS)],
    [SimData(0, values=holding, datatype=DataType.REGISTERS)],
    [SimData(0, values=inputs, datatype=DataType.REGISTERS)],
))


def line(ends):
    """Two pseudo-terminals, what goes into one comes out of the other."""
    while True:
        for end in select.select(ends, [], [])[0]:
            os.write(ends[1 - ends.index(end)], os.read(end, 256))


if sys.argv[1] == "pty":
    pairs = [os.openpty(), os.openpty()]
    for _, terminal in pairs:
        tty.setraw(terminal)
    threading.Thread(target=line, args=([pair[0] for pair in pairs],), daemon=True).start()
    print("at", os.ttyname(pairs[0][1]), file=sys.stderr)
    StartSerialServer(device, port=os.ttyname(pairs[1][1]), baudrate=19200, parity="N", trace_packet=trace)
StartTcpServer(device, address=("127.0.0.1", int(sys.argv[1])), trace_packet=trace)
