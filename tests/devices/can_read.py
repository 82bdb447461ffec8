"""CAN by others (python-can, cantools): can_read.py DBC LOG decodes a candump log, a line of JSON for each frame that the DBC knows;
can_read.py DBC encode MESSAGE JSON says the frame of these values as candump does."""
import json
import logging
import math
import sys

import can
import cantools

logging.disable(logging.CRITICAL)
database = cantools.database.load_file(sys.argv[1], strict=False)
if sys.argv[2] == "encode":
    message = database.get_message_by_name(sys.argv[3])
    data = message.encode(json.loads(sys.argv[4]))
    print(f"{message.frame_id:08X}" if message.is_extended_frame else f"{message.frame_id:03X}", data.hex().upper(), sep="#")
    sys.exit()
messages = {(each.frame_id, each.is_extended_frame): each for each in database.messages}
for frame in can.CanutilsLogReader(sys.argv[2]):
    message = messages.get((frame.arbitration_id, frame.is_extended_id))
    if message is None or frame.is_remote_frame or frame.is_error_frame:
        continue
    numbers = message.decode(bytes(frame.data), decode_choices=False)
    texts = {name: str(value) for name, value in message.decode(bytes(frame.data)).items() if not isinstance(value, (int, float))}
    values = {name: float(value).hex() if math.isfinite(value) else None for name, value in numbers.items()}
    print(json.dumps({"message": message.name, "values": values, "texts": texts, "time": round(frame.timestamp * 1000)}))
