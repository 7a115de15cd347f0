package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.MessageLite;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * An HTTP/2 connection under a test's own control, frame by frame, for what no well-behaved client does (RFC 9113, RFC
 * 7541, and gRPC's "PROTOCOL-HTTP2.md"). One thread at a time. Frames of the server are read only while a method waits
 * for something.
 */
final class RawHttp2 implements AutoCloseable {
    private static final int DATA = 0;
    private static final int HEADERS = 1;
    private static final int RST_STREAM = 3;
    private static final int SETTINGS = 4;
    private static final int PING = 6;
    private static final int GOAWAY = 7;
    private static final int WINDOW_UPDATE = 8;

    private static final int END_STREAM = 1;
    private static final int ACK = 1;
    private static final int END_HEADERS = 4;
    private static final int PADDED = 8;

    private static final int HEADER_TABLE_SIZE = 1;
    private static final int INITIAL_WINDOW_SIZE = 4;

    private static final int MAX_FRAME_BYTES = 16_384;
    private static final int CANCEL = 8;

    /** What the server has answered on one stream. */
    static final class Stream {
        final int id;
        final Map<String, String> headers = new HashMap<>();
        final ByteArrayOutputStream body = new ByteArrayOutputStream();
        private long window;
        private boolean ended;
        private int resetCode = -1;

        private Stream(int id, long window) {
            this.id = id;
            this.window = window;
        }

        /** Whether the server has nothing more to say. */
        boolean ended() {
            return ended || resetCode >= 0;
        }

        /** The number of the gRPC status, or -1 where the stream was reset without one. */
        int status() {
            return Integer.parseInt(headers.getOrDefault("grpc-status", "-1"));
        }

        String message() {
            return headers.getOrDefault("grpc-message", "");
        }
    }

    private final Socket socket;
    private final DataInputStream in;
    private final DataOutputStream out;
    private final Map<Integer, Stream> streams = new HashMap<>();
    private long window = 65_535;
    private long initialWindow = 65_535;
    private int nextStream = 1;
    private int goAways;

    /** A client that gives the server no more room for responses than one has at the start of a stream. */
    boolean slowReader;

    /** A client that does not answer the server's pings, until it is made to. */
    boolean deaf;

    private boolean gathering;

    private final List<byte[]> unansweredPings = new ArrayList<>();

    RawHttp2(InetSocketAddress address) throws IOException {
        socket = new Socket(address.getAddress(), address.getPort());
        socket.setTcpNoDelay(true);
        socket.setSoTimeout((int) (Harness.HANG_SECONDS * 1_000));
        in = new DataInputStream(new BufferedInputStream(socket.getInputStream()));
        out = new DataOutputStream(new BufferedOutputStream(socket.getOutputStream(), 1 << 16));
        out.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
        // Without a table of headers, the server sends them in their simplest form.
        ByteBuffer settings =
                ByteBuffer.allocate(6).putShort((short) HEADER_TABLE_SIZE).putInt(0);
        frame(SETTINGS, 0, 0, settings.array());
        flush();
    }

    // ---- Sending ----

    /** What is sent from now on leaves in one piece, with {@link #release}: 64 KiB at the most. */
    void gather() {
        gathering = true;
    }

    void release() throws IOException {
        gathering = false;
        flush();
    }

    private void flush() throws IOException {
        if (!gathering) {
            out.flush();
        }
    }

    /** Begins a call; {@code headers} are names and values beside the usual ones. */
    Stream start(String fullMethod, String... headers) throws IOException {
        ByteArrayOutputStream block = new ByteArrayOutputStream();
        header(block, ":method", "POST");
        header(block, ":scheme", "http");
        header(block, ":path", "/" + fullMethod);
        header(block, ":authority", "localhost");
        header(block, "content-type", "application/grpc");
        header(block, "te", "trailers");
        for (int i = 0; i < headers.length; i += 2) {
            header(block, headers[i], headers[i + 1]);
        }
        Stream stream = new Stream(nextStream, initialWindow);
        nextStream += 2;
        streams.put(stream.id, stream);
        frame(HEADERS, END_HEADERS, stream.id, block.toByteArray());
        flush();
        return stream;
    }

    /** A message with its gRPC prefix. */
    static byte[] message(byte[] content) {
        return ByteBuffer.allocate(5 + content.length)
                .put(prefix(content.length))
                .put(content)
                .array();
    }

    static byte[] message(MessageLite content) {
        return message(content.toByteArray());
    }

    /** The prefix of an uncompressed message that announces {@code length} bytes. */
    static byte[] prefix(int length) {
        return ByteBuffer.allocate(5).put((byte) 0).putInt(length).array();
    }

    /** A call with one message, from begin to end. */
    Stream call(String fullMethod, byte[] content, String... headers) throws IOException {
        Stream stream = start(fullMethod, headers);
        send(stream, message(content), true);
        return await(stream);
    }

    /** Sends bytes, in frames as large as they may be, unless the server ends the stream before. */
    void send(Stream stream, byte[] bytes, boolean end) throws IOException {
        send(stream, bytes, end, MAX_FRAME_BYTES, 0);
    }

    /** Sends bytes, so many in a frame, each frame padded with so many more. */
    void send(Stream stream, byte[] bytes, boolean end, int frameBytes, int paddingBytes) throws IOException {
        int sent = 0;
        int overhead = paddingBytes > 0 ? 1 + paddingBytes : 0;
        while (sent < bytes.length && !stream.ended()) {
            long room = Math.min(window, stream.window) - overhead;
            if (room <= 0) {
                flush();
                read();
                continue;
            }
            int part = (int) Math.min(room, Math.min(frameBytes, bytes.length - sent));
            boolean last = sent + part == bytes.length;
            ByteBuffer payload = ByteBuffer.allocate(part + overhead);
            if (overhead > 0) {
                payload.put((byte) paddingBytes);
            }
            payload.put(bytes, sent, part);
            frame(DATA, (end && last ? END_STREAM : 0) | (overhead > 0 ? PADDED : 0), stream.id, payload.array());
            window -= part + overhead;
            stream.window -= part + overhead;
            sent += part;
        }
        if (bytes.length == 0 && end) {
            frame(DATA, END_STREAM, stream.id, bytes);
        }
        flush();
    }

    /** Sends up to so many bytes on a stream that the server has ended, as far as there is room; returns how many. */
    int insist(Stream stream, int bytes) throws IOException {
        int sent = 0;
        while (sent < bytes) {
            int part = (int) Math.min(MAX_FRAME_BYTES, Math.min(bytes - sent, Math.min(window, stream.window)));
            if (part <= 0) {
                break;
            }
            frame(DATA, 0, stream.id, new byte[part]);
            window -= part;
            stream.window -= part;
            sent += part;
        }
        flush();
        return sent;
    }

    /** Ends a stream from the client's side. */
    void cancel(Stream stream) throws IOException {
        frame(RST_STREAM, 0, stream.id, ByteBuffer.allocate(4).putInt(CANCEL).array());
        flush();
    }

    private void frame(int type, int flags, int stream, byte[] payload) throws IOException {
        out.writeInt(payload.length << 8 | type);
        out.writeByte(flags);
        out.writeInt(stream);
        out.write(payload);
    }

    private static void header(ByteArrayOutputStream block, String name, String value) {
        block.write(0);
        for (String text : new String[] {name, value}) {
            byte[] bytes = text.getBytes(StandardCharsets.US_ASCII);
            assertTrue(bytes.length < 127);
            block.write(bytes.length);
            block.writeBytes(bytes);
        }
    }

    // ---- Receiving ----

    /** Reads until the server has ended the stream. */
    Stream await(Stream stream) throws IOException {
        while (!stream.ended()) {
            read();
        }
        return stream;
    }

    /** Reads until the server has sent so many bytes on the stream. */
    void awaitBody(Stream stream, int bytes) throws IOException {
        while (stream.body.size() < bytes && !stream.ended()) {
            read();
        }
    }

    /** Reads until the server has asked to leave. */
    void awaitGoAway() throws IOException {
        while (goAways == 0) {
            read();
        }
    }

    /** Reads until the server has ended the connection. */
    void awaitEnd() throws IOException {
        try {
            while (true) {
                read();
            }
        } catch (EOFException | SocketException e) {
            // Ended.
        }
    }

    /** Answers the pings that have been read, and from now on. */
    void answerPings() throws IOException {
        deaf = false;
        for (byte[] ping : unansweredPings) {
            frame(PING, ACK, 0, ping);
        }
        unansweredPings.clear();
        flush();
    }

    /** When this returns, the server has read and acted upon all that was sent before. Not by a ping: it counts them. */
    void roundTrip() throws IOException {
        call("homekv_service.HomeKvService/Metrics", new byte[0]);
    }

    private void read() throws IOException {
        int lengthAndType = in.readInt();
        int flags = in.readUnsignedByte();
        int id = in.readInt();
        byte[] payload = new byte[lengthAndType >>> 8];
        in.readFully(payload);
        ByteBuffer content = ByteBuffer.wrap(payload);
        Stream stream = streams.get(id);
        switch (lengthAndType & 0xff) {
            case SETTINGS -> settings(flags, content);
            case WINDOW_UPDATE -> {
                if (id == 0) {
                    window += content.getInt();
                } else {
                    stream.window += content.getInt();
                }
            }
            case PING -> {
                if ((flags & ACK) == 0) {
                    unansweredPings.add(payload);
                }
                if (!deaf) {
                    answerPings();
                }
            }
            case GOAWAY -> goAways++;
            case RST_STREAM -> stream.resetCode = content.getInt();
            case HEADERS -> {
                decode(content, stream.headers);
                stream.ended |= (flags & END_STREAM) != 0;
            }
            case DATA -> {
                stream.body.writeBytes(payload);
                stream.ended |= (flags & END_STREAM) != 0;
                if (!slowReader && payload.length > 0) {
                    byte[] room = ByteBuffer.allocate(4).putInt(payload.length).array();
                    frame(WINDOW_UPDATE, 0, 0, room);
                    frame(WINDOW_UPDATE, 0, id, room);
                    flush();
                }
            }
            default -> {}
        }
    }

    private void settings(int flags, ByteBuffer content) throws IOException {
        while (content.hasRemaining()) {
            int name = content.getShort();
            int value = content.getInt();
            if (name == INITIAL_WINDOW_SIZE) {
                for (Stream stream : streams.values()) {
                    stream.window += value - initialWindow;
                }
                initialWindow = value;
            }
        }
        if ((flags & ACK) == 0) {
            frame(SETTINGS, ACK, 0, new byte[0]);
            flush();
        }
    }

    /** Literal headers with their names go into {@code headers}; the others, from the static table, matter to no test. */
    private static void decode(ByteBuffer block, Map<String, String> headers) {
        while (block.hasRemaining()) {
            int first = block.get(block.position()) & 0xff;
            if (first >= 0x80) {
                integer(block, 7);
            } else if (first >= 0x20 && first < 0x40) {
                integer(block, 5);
            } else {
                int name = integer(block, first >= 0x40 ? 6 : 4);
                headers.put(name == 0 ? string(block) : "#" + name, string(block));
            }
        }
    }

    private static int integer(ByteBuffer block, int prefixBits) {
        int max = (1 << prefixBits) - 1;
        int value = block.get() & max;
        if (value == max) {
            int shift = 0;
            int next;
            do {
                next = block.get();
                value += (next & 0x7f) << shift;
                shift += 7;
            } while (next < 0);
        }
        return value;
    }

    private static String string(ByteBuffer block) {
        assertTrue(block.get(block.position()) >= 0, "no Huffman code is expected in short headers");
        byte[] bytes = new byte[integer(block, 7)];
        block.get(bytes);
        return new String(bytes, StandardCharsets.US_ASCII);
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}
