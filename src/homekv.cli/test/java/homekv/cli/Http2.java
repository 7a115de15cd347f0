package homekv.cli;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * One end of an HTTP/2 connection, by hand, with just what a gRPC call needs: no flow control, no compression of
 * headers. So tests hold every frame in their own hands, and no generated code stands for the wire contract.
 *
 * <p>RFC 9113 (frames) and RFC 7541 (headers).
 */
final class Http2 implements AutoCloseable {
    static final int DATA = 0;
    static final int HEADERS = 1;
    static final int SETTINGS = 4;
    static final int PING = 6;
    static final int GOAWAY = 7;

    static final int END_STREAM = 1;
    static final int ACK = 1;
    static final int END_HEADERS = 4;

    private static final byte[] PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".getBytes(StandardCharsets.US_ASCII);

    record Frame(int type, int flags, int stream, byte[] payload) {
        boolean has(int flag) {
            return (flags & flag) != 0;
        }
    }

    private final Socket socket;
    private final DataInputStream in;

    private Http2(Socket socket) throws IOException {
        this.socket = socket;
        this.in = new DataInputStream(socket.getInputStream());
    }

    /** The client's end of a new connection. */
    static Http2 connect(int port) throws IOException {
        Http2 connection = new Http2(new Socket(InetAddress.getByName("127.0.0.1"), port));
        connection.socket.getOutputStream().write(PREFACE);
        connection.write(SETTINGS, 0, 0, new byte[0]);
        return connection;
    }

    void write(int type, int flags, int stream, byte[] payload) throws IOException {
        ByteBuffer frame = ByteBuffer.allocate(9 + payload.length);
        frame.putInt(payload.length << 8 | type)
                .put((byte) flags)
                .putInt(stream)
                .put(payload);
        socket.getOutputStream().write(frame.array());
    }

    /** The next frame, null at the end; settings and pings are answered on the way. */
    Frame read() throws IOException {
        int lengthAndType;
        try {
            lengthAndType = in.readInt();
        } catch (EOFException | SocketException e) {
            return null;
        }
        Frame frame = new Frame(lengthAndType & 0xff, in.readByte(), in.readInt(), in.readNBytes(lengthAndType >>> 8));
        if ((frame.type == SETTINGS || frame.type == PING) && !frame.has(ACK)) {
            write(frame.type, ACK, 0, frame.type == PING ? frame.payload : new byte[0]);
        }
        return frame;
    }

    /** Reads on to a frame of a type. */
    Frame readTo(int type) throws IOException {
        for (Frame frame; (frame = read()) != null; ) {
            if (frame.type == type) {
                return frame;
            }
        }
        throw new EOFException("no frame of type " + type);
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }

    // ---- Content ----

    /** A block of headers: each a literal that is not indexed. */
    static byte[] headers(String... namesAndValues) {
        ByteArrayOutputStream block = new ByteArrayOutputStream();
        for (int i = 0; i < namesAndValues.length; i++) {
            if (i % 2 == 0) {
                block.write(0);
            }
            byte[] text = namesAndValues[i].getBytes(StandardCharsets.ISO_8859_1);
            if (text.length >= 127) {
                throw new IllegalArgumentException("too long for a length of one byte");
            }
            block.write(text.length);
            block.writeBytes(text);
        }
        return block.toByteArray();
    }

    /** A gRPC message with its prefix: not compressed, so long. */
    static byte[] prefixed(byte[] message) {
        return ByteBuffer.allocate(5 + message.length)
                .put((byte) 0)
                .putInt(message.length)
                .put(message)
                .array();
    }

    /** A protobuf field with a length, of a message or string or bytes; short ones only. */
    static byte[] field(int number, byte[]... parts) {
        ByteArrayOutputStream content = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            content.writeBytes(part);
        }
        ByteArrayOutputStream field = new ByteArrayOutputStream();
        field.write(number << 3 | 2);
        field.write(content.size());
        field.writeBytes(content.toByteArray());
        return field.toByteArray();
    }

    static byte[] field(int number, String text) {
        return field(number, text.getBytes(StandardCharsets.UTF_8));
    }

    /** A protobuf field with a number. */
    static byte[] field(int number, long value) {
        ByteArrayOutputStream field = new ByteArrayOutputStream();
        field.write(number << 3);
        for (; (value & ~0x7fL) != 0; value >>>= 7) {
            field.write((int) value & 0x7f | 0x80);
        }
        field.write((int) value);
        return field.toByteArray();
    }

    static byte[] message(byte[]... fields) {
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        for (byte[] field : fields) {
            message.writeBytes(field);
        }
        return message.toByteArray();
    }

    // ---- A server of one's own ----

    /** What a server answers: a message, or a status other than 0 and its text as gRPC writes it. */
    record Answer(byte[] message, int status, String statusText) {
        static Answer of(byte[]... fields) {
            return new Answer(Http2.message(fields), 0, "");
        }

        static Answer status(int status, String text) {
            return new Answer(null, status, text);
        }
    }

    interface Method {
        Answer answer(String name, byte[] request);
    }

    interface Talk {
        void with(Socket socket) throws IOException;
    }

    /** Takes one connection after the other on a free port, and does with it what a test wants. */
    static final class Server implements AutoCloseable {
        private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
        private final List<Socket> accepted = new ArrayList<>();
        private final Thread thread;

        Server(Talk talk) throws IOException {
            thread = Thread.ofPlatform().daemon().start(() -> {
                while (true) {
                    try {
                        Socket socket = listener.accept();
                        accepted.add(socket); // Held: a socket that is collected is closed.
                        talk.with(socket);
                    } catch (IOException | UncheckedIOException e) {
                        if (listener.isClosed()) {
                            return;
                        }
                    }
                }
            });
        }

        /** A gRPC server of HomeKvService. */
        static Server of(Method method) throws IOException {
            return new Server(socket -> serve(socket, method));
        }

        private static void serve(Socket socket, Method method) throws IOException {
            try (Http2 connection = new Http2(socket)) {
                connection.in.readNBytes(PREFACE.length);
                connection.write(SETTINGS, 0, 0, new byte[0]);
                String name = "";
                ByteArrayOutputStream request = new ByteArrayOutputStream();
                for (Frame frame; (frame = connection.read()) != null; ) {
                    if (frame.type == HEADERS) {
                        String block = new String(frame.payload, StandardCharsets.ISO_8859_1);
                        name = block.replaceAll("(?s).*/homekv_service\\.HomeKvService/([A-Z][a-z]+).*", "$1");
                    } else if (frame.type == DATA) {
                        request.writeBytes(frame.payload);
                    }
                    if (frame.type <= HEADERS && frame.has(END_STREAM)) {
                        byte[] message = Arrays.copyOfRange(request.toByteArray(), 5, request.size());
                        connection.answer(frame.stream, method.answer(name, message));
                    }
                }
            }
        }

        int port() {
            return listener.getLocalPort();
        }

        @Override
        public void close() {
            try {
                listener.close();
                thread.join(Duration.ofSeconds(10));
                for (Socket socket : accepted) {
                    socket.close();
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            } catch (InterruptedException e) {
                throw new AssertionError(e);
            }
        }
    }

    private void answer(int stream, Answer answer) throws IOException {
        write(HEADERS, END_HEADERS, stream, headers(":status", "200", "content-type", "application/grpc"));
        if (answer.message != null) {
            write(DATA, 0, stream, prefixed(answer.message));
        }
        write(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                headers("grpc-status", Integer.toString(answer.status), "grpc-message", answer.statusText));
    }
}
