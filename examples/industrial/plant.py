"""A pump with a motor, as a Modbus TCP device: plant.py PORT [FAULT]. FAULT: "bearing" or "blocked", from the 30th second on.

Holding registers: 0 current (0.01 A), 1 vibration (0.01 mm/s), 2 bearing temperature (0.1 C), 3 pressure (0.01 bar), 4 speed (%, writable).
Coil 0: runs (writable). With s the speed from 0 to 1, w the wear and b how far the outlet is blocked (0 to 1), each with a little noise:

    pressure     p = 6 s^2 (1 + 1.5 b)
    current      i = 2 + 14 s^3 (1 + 0.3 w) + 4 b s
    vibration    v = 1.2 s + 9 w s^2
    temperature  dT/dt = (25 + 30 s + 60 w s - T) / 40 s
"""
import random
import sys
import time

from pymodbus.server import StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

fault = sys.argv[2] if len(sys.argv) > 2 else ""
begin = last = time.monotonic()
state = {"speed": 80, "run": 1, "temperature": 45.0}


def update():
    global last
    now = time.monotonic()
    age = max(0.0, min(1.0, (now - begin - 30) / 60))
    wear, blocked = (age if fault == "bearing" else 0.0), (age if fault == "blocked" else 0.0)
    s = state["run"] * state["speed"] / 100
    noise = lambda width: random.gauss(0, width)
    state["temperature"] += (now - last) / 40 * (25 + 30 * s + 60 * wear * s - state["temperature"])
    last = now
    values = (100 * (2 * state["run"] + 14 * s**3 * (1 + 0.3 * wear) + 4 * blocked * s + noise(0.05)),
              100 * (1.2 * s + 9 * wear * s**2 + abs(noise(0.05))),
              10 * (state["temperature"] + noise(0.1)),
              100 * (6 * s**2 * (1 + 1.5 * blocked) + abs(noise(0.02))),
              state["speed"])
    return [max(0, min(65535, round(value))) for value in values]


async def action(function_code, start_address, address, count, current_registers, set_values):
    if function_code in (1, 5, 15):
        if set_values:
            state["run"] = int(bool(set_values[0]))
            print(f"plant: run = {state['run']}", file=sys.stderr)
        current_registers[0] = state["run"]
        return None
    if set_values and address == 4:
        state["speed"] = set_values[0]
        print(f"plant: speed = {state['speed']} %", file=sys.stderr)
    current_registers[0:5] = update()
    return None


def block(values, datatype):
    return [SimData(0, values=values, datatype=datatype)]


device = SimDevice(1, action=action, simdata=(block([True] + [False] * 15, DataType.BITS), block([False] * 16, DataType.BITS),
                                              block([0] * 5, DataType.REGISTERS), block([0] * 5, DataType.REGISTERS)))
StartTcpServer(device, address=("127.0.0.1", int(sys.argv[1])))
