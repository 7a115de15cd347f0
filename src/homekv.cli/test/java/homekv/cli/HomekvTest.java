package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import homekv.rpc.HomeKvServer;
import homekv.storage.Bytes;
import homekv.storage.Limit;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The programs as processes: homekv, how it starts and stops, and what hkvctl makes of the bytes that a shell gives. */
@Timeout(value = 180, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class HomekvTest {
    private static final int CANNOT_SERVE = 1;
    private static final int USAGE = 2;

    private static final Pattern READY = Pattern.compile("homekv (\\S+) listening on (\\S+):([0-9]+)");

    /** A server that has said it is ready. */
    private record Server(Harness.Child child, String host, int port) implements AutoCloseable {
        static Server start(List<String> jvmFlags, String... args) throws IOException, InterruptedException {
            Harness.Child child = launch(jvmFlags, args);
            String line = child.readLine();
            if (line == null) {
                throw new AssertionError("not ready: " + child.end());
            }
            Matcher ready = READY.matcher(line);
            assertTrue(ready.matches(), line);
            assertEquals(Program.version(), ready.group(1));
            return new Server(child, ready.group(2), Integer.parseInt(ready.group(3)));
        }

        static Server start(String... args) throws IOException, InterruptedException {
            return start(List.of(), args);
        }

        Harness.Run hkvctl(String... args) {
            List<String> typed = new ArrayList<>(List.of("-p", Integer.toString(port)));
            typed.addAll(Arrays.stream(args).map(Harness::typed).toList());
            return Harness.run(typed);
        }

        /** Sends SIGTERM: the server must end with 0 and have printed nothing since it was ready. */
        void stop() throws IOException, InterruptedException {
            child.terminate();
            child.end().printed("");
        }

        @Override
        public void close() {
            child.close();
        }
    }

    private static Harness.Child launch(List<String> jvmFlags, String... args) throws IOException {
        return new Harness.Child("homekv", Map.of(), Harness.java(Homekv.class, jvmFlags, args));
    }

    /** Runs a server that must end by itself before it serves. */
    private static Harness.Run homekv(List<String> jvmFlags, String... args) throws IOException, InterruptedException {
        try (Harness.Child child = launch(jvmFlags, args)) {
            assertNull(child.readLine(), "nothing on standard output");
            return child.end();
        }
    }

    private static Harness.Run homekv(String... args) throws IOException, InterruptedException {
        return homekv(List.of(), args);
    }

    // ---- Serving ----

    @ParameterizedTest
    @ValueSource(strings = {"-h -p 0", "-p 0 -h", "--port=0 --host localhost"})
    void theReadyLineTellsTheAddressAndThePortThatWasPicked(String line) throws Exception {
        try (Server server = Server.start(line.split(" "))) {
            assertEquals("127.0.0.1", server.host());
            assertTrue(server.port() > 0);
            server.hkvctl("set", "k=v").printed("OK revision=1\n");
            server.stop();
        }
    }

    @Test
    void aPortThatIsGivenIsThePort() throws Exception {
        int port;
        try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            port = free.getLocalPort();
        }
        try (Server server = Server.start("-h", "-p", Integer.toString(port))) {
            assertEquals(port, server.port());
            server.stop();
        }
    }

    @Test
    void ipv6IsServedAndWrittenInBrackets() throws Exception {
        assumeTrue(canListenAt("::1"), "no IPv6 here");
        try (Server server = Server.start("-h", "::1", "-p", "0")) {
            assertEquals(InetAddress.getByName("::1"), InetAddress.getByName(server.host()));
            assertTrue(server.host().startsWith("[") && server.host().endsWith("]"), server.host());
            for (String host : List.of("::1", "[::1]", server.host())) {
                server.hkvctl("-h", host, "get", "k").printed("k (not found)\n");
            }
            server.stop();
        }
    }

    private static boolean canListenAt(String host) {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName(host))) {
            return socket.isBound();
        } catch (IOException e) {
            return false;
        }
    }

    @Test
    void listeningBeyondLoopbackIsWarnedOfInOneLine() throws Exception {
        try (Server server = Server.start("-h", "0.0.0.0", "-p", "0")) {
            server.hkvctl("get", "k").printed("k (not found)\n");
            server.child().terminate();
            Harness.Run run = server.child().end();
            assertEquals("", run.out());
            assertTrue(
                    run.err().matches("homekv: warning: 0\\.0\\.0\\.0 .*encrypted.*authenticated[^\n]*\n"), run.err());
            assertEquals(0, run.exitCode());
        }
    }

    /** Every kind of request, refused and broken ones too: the ready line stays the only one on either stream. */
    @Test
    void nothingIsPrintedForARequestWhateverItIs() throws Exception {
        try (Server server = Server.start("-h", "-p", "0", "--max-key-bytes", "10")) {
            server.hkvctl("set", "k=v").printed("OK revision=1\n");
            server.hkvctl("get", "k").printed("k=v\n");
            server.hkvctl("del", "k").printed("OK deleted=1 revision=2\n");
            assertEquals(0, server.hkvctl("metrics").exitCode());
            server.hkvctl("get", "a key too long").failed(1, "--max-key-bytes");
            for (String greeting :
                    List.of("GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n garbage", "\u0016\u0003")) {
                try (Socket socket = new Socket(InetAddress.getByName("127.0.0.1"), server.port())) {
                    socket.getOutputStream().write(greeting.getBytes(StandardCharsets.ISO_8859_1));
                    socket.shutdownOutput();
                    assertNotNull(readAll(socket));
                }
            }
            server.hkvctl("get", "k").printed("k (not found)\n");
            server.stop();
        }
    }

    private static byte[] readAll(Socket socket) {
        try {
            return socket.getInputStream().readAllBytes();
        } catch (IOException e) {
            return new byte[0]; // Reset: the server has had enough.
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"-XX:+UseG1GC", "-XX:+UseZGC"})
    void theServerServesUnderAnyCollector(String collector) throws Exception {
        try (Server server = Server.start(List.of(collector), "-p", "0")) {
            server.hkvctl("set", "k=v").printed("OK revision=1\n");
            server.stop();
        }
    }

    @Test
    void limitsCanBeSetAndTheirEndsAreTaken() throws Exception {
        List<String> least = new ArrayList<>(List.of("-p", "0"));
        List<String> most = new ArrayList<>(List.of("-p", "0"));
        for (Limit limit : EnumSet.range(Limit.KEY_BYTES, Limit.MEMORY_BYTES)) {
            least.add(HomeKvServer.flag(limit) + "=" + least(limit));
            most.add(HomeKvServer.flag(limit) + "=" + limit.max());
        }
        least.addAll(List.of("--history-bytes=0", "--history-duration=0"));
        most.addAll(List.of("--history-bytes=" + Limit.HISTORY_BYTES.max(), "--history-duration=999999999s"));
        try (Server server = Server.start(least.toArray(String[]::new))) {
            server.hkvctl("get", "k").failed(1);
            server.stop();
        }
        try (Server server = Server.start(most.toArray(String[]::new))) {
            server.hkvctl("set", "k=v").printed("OK revision=1\n");
            server.hkvctl("get", "k").printed("k=v\n");
            server.stop();
        }
    }

    @Test
    void withoutAHistoryOnlyTheNewestRevisionCanBeRead() throws Exception {
        try (Server server = Server.start("-p", "0", "--history-bytes", "0")) {
            server.hkvctl("set", "k=1").printed("OK revision=1\n");
            server.hkvctl("set", "k=2").printed("OK revision=2\n");
            server.hkvctl("get", "k", "--rev", "1").failed(1, "2");
            server.hkvctl("get", "k", "--rev", "2").printed("k=2\n");
            server.stop();
        }
    }

    private static long least(Limit limit) {
        return limit == Limit.VALUE_BYTES || limit == Limit.MEMORY_BYTES ? 0 : 1;
    }

    // ---- Stopping ----

    /** A client may be connected: an idle connection is no call under way. */
    @Test
    void sigtermEndsAnIdleServerWithZeroThoughClientsAreConnected() throws Exception {
        try (Server server = Server.start("-p", "0");
                Http2 idle = Http2.connect(server.port())) {
            idle.readTo(Http2.SETTINGS);
            server.child().terminate();
            idle.readTo(Http2.GOAWAY);
            while (idle.read() != null) {
                // Answering pings, until the server hangs up.
            }
            server.child().end().printed("");
        }
    }

    /** The call has begun and its request is not yet whole; it becomes whole once the server says that it stops. */
    @Test
    void sigtermLetsACallUnderWayFinishAndThenEndsWithZero() throws Exception {
        try (Server server = Server.start("-p", "0");
                Http2 client = Http2.connect(server.port())) {
            client.write(
                    Http2.HEADERS,
                    Http2.END_HEADERS,
                    1,
                    Http2.headers(
                            ":method",
                            "POST",
                            ":scheme",
                            "http",
                            ":path",
                            "/homekv_service.HomeKvService/Set",
                            ":authority",
                            "localhost",
                            "content-type",
                            "application/grpc",
                            "te",
                            "trailers"));
            client.write(Http2.PING, 0, 0, new byte[8]);
            Http2.Frame pong = client.readTo(Http2.PING);
            assertTrue(pong.has(Http2.ACK), "the server has read the headers in front of the ping");

            server.child().terminate();
            client.readTo(Http2.GOAWAY);
            byte[] record = Http2.field(1, Http2.field(1, "k"), Http2.field(2, "v"));
            client.write(Http2.DATA, Http2.END_STREAM, 1, Http2.prefixed(record));
            byte[] done = Http2.message(Http2.field(1, 1), Http2.field(2, 1), Http2.field(3, 1));
            assertArrayEquals(Http2.prefixed(done), client.readTo(Http2.DATA).payload());
            assertTrue(client.readTo(Http2.HEADERS).has(Http2.END_STREAM));
            while (client.read() != null) {
                // Answering pings, until the server hangs up.
            }
            server.child().end().printed("");
        }
    }

    @Test
    void aServerThatHasStoppedLeavesItsPortToTheNext() throws Exception {
        try (Server first = Server.start("-p", "0")) {
            first.hkvctl("get", "k").printed("k (not found)\n");
            first.stop();
            try (Server second = Server.start("-p", Integer.toString(first.port()))) {
                assertEquals(first.port(), second.port());
                second.stop();
            }
        }
    }

    @Test
    void sigintEndsItWithZero() throws Exception {
        try (Server server = Server.start("-p", "0")) {
            long pid = server.child().process.pid();
            assumeFalse(ignoresInterrupts(pid), "what started these tests has its children ignore Ctrl-C");
            Process kill = new ProcessBuilder("/bin/sh", "-c", "kill -INT " + pid).start();
            assertEquals(0, kill.waitFor());
            server.child().end().printed("");
        }
    }

    /** A shell without job control has what it starts in the background ignore SIGINT, and the JVM keeps to that. */
    private static boolean ignoresInterrupts(long pid) throws IOException {
        Path status = Path.of("/proc/" + pid + "/status");
        if (!Files.exists(status)) {
            return false;
        }
        String ignored = Files.readString(status).replaceAll("(?s).*SigIgn:\\s*([0-9a-f]+).*", "$1");
        return (Long.parseUnsignedLong(ignored, 16) & 1 << 1) != 0;
    }

    // ---- What cannot be served ----

    @Test
    void aPortThatIsTakenIsOneLineThatSaysWhatToDo() throws Exception {
        try (ServerSocket taken = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            String port = Integer.toString(taken.getLocalPort());
            homekv("-h", "-p", port).failed(CANNOT_SERVE, "127.0.0.1:" + port, "is taken", "-p");
        }
    }

    @ParameterizedTest
    @CsvSource({
        "no-such-host.invalid, no-such-host.invalid",
        "192.0.2.1, 192.0.2.1 is no address of this machine",
        "2001:db8::1, ",
        "256.1.1.1, 256.1.1.1",
        "'a b', a b",
        "[::1, [::1",
        "fe80::1%nosuch, nosuch",
    })
    void aHostThatIsNotOfThisMachineIsOneLine(String host, String words) throws Exception {
        homekv("-h", host, "-p", "0").failed(CANNOT_SERVE, words == null ? "" : words);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "--bogus                                     | unknown flag --bogus",
                "-p 65536                                    | 0 to 65535",
                "--port=-1                                   | 0 to 65535",
                "-p                                          | --port needs a value",
                "-p 0 serve                                  | unknown argument serve",
                "-p 0 -- -x                                  | unknown argument -x",
                "--help=1                                    | --help takes no value",
            })
    void aWrongCommandLineIsOneLineThatSaysWhatIsWrong(String line, String words) throws Exception {
        homekv(line.split(" ")).failed(USAGE, words);
    }

    /** Both the flag and the number are named as they were typed. */
    @ParameterizedTest
    @CsvSource({
        "--max-key-bytes, 0",
        "--max-value-bytes, 1073741825",
        "--max-request-keys, 2147483648",
        "--max-request-bytes, 99999999999",
        "--max-in-flight-bytes, -1",
        "--max-memory-bytes, 9223372036854775808",
        "--max-memory-bytes, 10m",
        "--history-bytes, 10m",
        "--history-duration, 1h",
    })
    void aLimitThatIsNoneIsOneLineWithItsFlagAndTheNumberThatWasTyped(String flag, String number) throws Exception {
        homekv("-p", "0", flag + "=" + number).failed(USAGE, flag, "not " + number);
    }

    // ---- Memory ----

    @ParameterizedTest
    @CsvSource({
        "63m, too little",
        "1, too little",
        "65535k, too little",
        "999999t, more than the",
        "512mb, such as",
        "-1, ",
        "'', such as",
        "much, such as",
        "99999999999999999999, such as",
    })
    void aMemorySizeThatIsNoneIsOneLine(String size, String words) throws Exception {
        homekv("-p", "0", "--memory=" + size).failed(USAGE, "--memory", words == null ? "" : words);
    }

    @Test
    void aMemorySizeThatTheHeapDoesNotHaveIsRefusedRatherThanIgnored() throws Exception {
        homekv(List.of("-Xmx512m"), "-p", "0", "--memory", "64m").failed(USAGE, "--memory", "bin/homekv");
    }

    @ParameterizedTest
    @ValueSource(strings = {"64M", "0065536k"})
    void theHeapThatTheLauncherGaveIsTheMemoryThatWasAskedFor(String size) throws Exception {
        try (Server server = Server.start(List.of("-Xmx64m"), "-p", "0", "--memory", size)) {
            server.hkvctl("set", "k=v").printed("OK revision=1\n");
            server.stop();
        }
    }

    // ---- Help ----

    @Test
    void helpAndVersionArePrintedAndNothingElse() throws Exception {
        try (Harness.Child child = launch(List.of(), "-p", "0", "--help")) {
            Harness.Run help = child.end();
            assertEquals("", help.err());
            assertEquals(0, help.exitCode());
            assertTrue(help.out().startsWith("homekv: "), help.out());
        }
        try (Harness.Child child = launch(List.of(), "--version")) {
            child.end().printed("homekv " + Program.version() + "\n");
        }
    }

    // ---- hkvctl, and the bytes that a shell gives it ----

    /**
     * In the C locale the JVM loses every byte above 127 of its arguments, in a UTF-8 locale every byte that is not
     * UTF-8. The shell writes the bytes, so that no JVM on the way can change them.
     */
    @ParameterizedTest
    @ValueSource(strings = {"", "C", "C.UTF-8"})
    void argumentsAreTheBytesThatWereTypedWhateverTheLocale(String locale) throws Exception {
        assumeTrue(Files.exists(Path.of("/proc/self/cmdline")), "elsewhere bytes that are not UTF-8 are lost");
        Map<String, String> environment = locale.isEmpty() ? Map.of() : Map.of("LC_ALL", locale);
        try (Harness kv = new Harness()) {
            String port = Integer.toString(kv.port());
            shell(
                            environment,
                            "set -p " + port
                                    + " \"$(printf 'k\\377\\200=\\360\\237\\246\\253')\" '@k=\\x00' 'e=' \"$(printf '\\303\\274=\\303')\"")
                    .printed("OK revision=1\n");
            assertEquals(Bytes.utf8("🦫"), kv.value(bytes('k', 0xff, 0x80)));
            assertEquals(bytes(0), kv.value(Bytes.utf8("@k")));
            assertEquals(Bytes.utf8(""), kv.value(Bytes.utf8("e")));
            assertEquals(bytes(0xc3), kv.value(Bytes.utf8("ü")));
            shell(
                            environment,
                            "get -h -p " + port
                                    + " -- \"$(printf 'k\\377\\200')\" \"$(printf '\\303\\274')\" 'a*' ''k '-z'")
                    .printed("k\\xff\\x80=🦫\nü=\\xc3\na* (not found)\nk (not found)\n-z (not found)\n");
            Harness.Run refused = shell(environment, "\"$(printf '\\303\\274\\377')\" -p " + port);
            refused.failed(USAGE, "unknown command ü\\xff");
        }
    }

    @Test
    void emptyArgumentsAreCountedAndNoArgumentsAreNone() throws Exception {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=v").printed("OK revision=1\n");
            shell(Map.of(), "get -p " + kv.port() + " k ''").failed(1, "empty");
            shell(Map.of(), "-p " + kv.port() + " '' ''").failed(USAGE, "unknown command");
        }
        shell(Map.of(), "").failed(USAGE, "no command");
    }

    @Test
    void hkvctlEndsWithTheCodesThatItDocuments() throws Exception {
        shell(Map.of(), "--version").printed("hkvctl " + Program.version() + "\n");
        shell(Map.of(), "--bogus").failed(2, "--bogus");
        shell(Map.of(), "get k -h no-such-host.invalid").failed(5, "no-such-host.invalid");
        try (Harness kv = new Harness()) {
            shell(Map.of(), "get '' -p " + kv.port()).failed(1, "empty");
            assertNull(kv.value(Bytes.utf8("k")));
        }
    }

    /** Runs hkvctl by /bin/sh, with arguments in the shell's own words. */
    private static Harness.Run shell(Map<String, String> environment, String words) throws Exception {
        List<String> command = new ArrayList<>(List.of("/bin/sh", "-c", "exec \"$@\" " + words, "sh"));
        command.addAll(Harness.java(Hkvctl.class, List.of("-XX:+UseSerialGC", "-Xmx128m")));
        try (Harness.Child child = new Harness.Child("hkvctl", environment, command)) {
            Harness.Run run = child.end();
            assertFalse(run.err().contains("Exception"), run.err());
            return run;
        }
    }

    private static Bytes bytes(int... values) {
        byte[] bytes = new byte[values.length];
        for (int i = 0; i < values.length; i++) {
            bytes[i] = (byte) values[i];
        }
        return Bytes.unsafeWrap(bytes);
    }
}
