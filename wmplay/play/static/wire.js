// The connection to the server: JSON both ways, but for frames (see protocol.py).

const text = new TextDecoder();

export class Wire {
  constructor(handlers) {
    const token = new URLSearchParams(location.search).get("token") ?? "";
    this.socket = new WebSocket(`ws://${location.host}/play.ws?token=${encodeURIComponent(token)}`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        const message = JSON.parse(data);
        handlers[message.type]?.(message);
      } else {
        handlers.frame(readFrame(data));
      }
    };
    this.socket.onclose = () => handlers.closed();
  }

  send(type, fields = {}) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }
}

// Returns the header with `screens`: {plane: Uint8Array of height x width x channels}.
function readFrame(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(text.decode(new Uint8Array(buffer, 4, length)));
  const size = (buffer.byteLength - 4 - length) / header.planes.length;
  const screens = {};
  header.planes.forEach((name, i) => (screens[name] = new Uint8Array(buffer, 4 + length + i * size, size)));
  return { ...header, screens };
}
