package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.rpc.HomeKvServer;
import homekv.storage.Bytes;
import homekv.storage.CommandLog;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.UnaryOperator;

/** What the tests of the programs share: a server in this process, runs of the programs, and seeds. */
final class Harness implements AutoCloseable {
    private static final boolean FULL = Boolean.getBoolean("homekv.full");

    final MvccStore store;
    final CommandLog log;
    final HomeKvServer server;

    /** A server on a free port of the loopback address, of a store that is changed through a log in front of its own. */
    Harness(Limits limits, UnaryOperator<CommandLog> log) throws IOException {
        store = new MvccStore(limits);
        this.log = log.apply(new MemoryCommandLog(store));
        server = serve();
    }

    Harness(Limits limits) throws IOException {
        this(limits, log -> log);
    }

    Harness() throws IOException {
        this(Limits.forHeap(1L << 40));
    }

    /** Another server of the same store. */
    HomeKvServer serve() throws IOException {
        return new HomeKvServer(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), 0), store, log);
    }

    int port() {
        return server.address().getPort();
    }

    /** Runs hkvctl against this server. */
    Run hkvctl(String... args) {
        return hkvctl(Arrays.stream(args).map(Harness::typed).toList());
    }

    /** Runs hkvctl against this server with arguments that have one char a byte. */
    Run hkvctl(List<String> typed) {
        List<String> args = new ArrayList<>(List.of("-p", Integer.toString(port())));
        args.addAll(typed);
        return run(args);
    }

    /** Runs hkvctl txn against this server with a script on standard input. */
    Run txn(String script) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        InputStream in = new ByteArrayInputStream(script.getBytes(StandardCharsets.UTF_8));
        return run(List.of("-p", Integer.toString(port()), "txn"), in, out, out);
    }

    /** Runs hkvctl against this server with bytes on standard input. */
    Run hkvctl(byte[] input, String... args) {
        List<String> typed = new ArrayList<>(List.of("-p", Integer.toString(port())));
        Arrays.stream(args).map(Harness::typed).forEach(typed::add);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        return run(typed, new ByteArrayInputStream(input), out, out);
    }

    /** The value in the store, null where there is none. */
    Bytes value(Bytes key) {
        var entry = store.get(key);
        return entry == null ? null : entry.value();
    }

    @Override
    public void close() {
        server.close();
        store.close();
    }

    // ---- Runs ----

    /** How a program ended and what it printed. */
    record Run(String program, int exitCode, byte[] outBytes, String err) {
        String out() {
            return new String(outBytes, StandardCharsets.UTF_8);
        }

        /** The run was a success that printed this and nothing else. */
        void printed(String expected) {
            assertEquals("", err);
            assertEquals(expected, out());
            assertEquals(0, exitCode);
        }

        /** The run was a success that printed this, and said one line like that on standard error. */
        void printedAndSaid(String expected, String said) {
            assertTrue(err.matches(said + "\n"), err);
            assertEquals(expected, out());
            assertEquals(0, exitCode);
        }

        /** The run failed with nothing on standard output, and on standard error one line that has these words. */
        void failed(int expectedCode, String... words) {
            assertEquals("", out());
            assertTrue(
                    err.matches("\\Q" + program + "\\E: [^\\p{Cntrl}\\u0080-\\u009f]*[^\\p{Cntrl}\\s]\n"),
                    () -> "not one clean line: " + err);
            for (String word : words) {
                assertTrue(err.contains(word), () -> "'" + word + "' is not in: " + err);
            }
            assertEquals(expectedCode, exitCode, err);
        }
    }

    /** Runs hkvctl in this process with arguments that have one char a byte. */
    static Run run(List<String> typed) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        return run(typed, out, out);
    }

    static Run run(List<String> typed, OutputStream out, ByteArrayOutputStream captured) {
        return run(typed, InputStream.nullInputStream(), out, captured);
    }

    private static Run run(List<String> typed, InputStream in, OutputStream out, ByteArrayOutputStream captured) {
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        int exitCode = Hkvctl.run(typed, in, out, new PrintStream(err, true, StandardCharsets.UTF_8));
        return new Run("hkvctl", exitCode, captured.toByteArray(), err.toString(StandardCharsets.UTF_8));
    }

    /** Text as the programs take it: one char for each byte of its UTF-8 form. */
    static String typed(String text) {
        return new String(text.getBytes(StandardCharsets.UTF_8), StandardCharsets.ISO_8859_1);
    }

    // ---- Child processes ----

    /** A process and what it writes. Closing it ends it. */
    static final class Child implements AutoCloseable {
        final Process process;
        private final String program;
        private final Path err;

        /** Starts a command with this environment and no other. */
        Child(String program, Map<String, String> environment, List<String> command) throws IOException {
            this.program = program;
            err = Files.createTempFile("homekv", ".err");
            err.toFile().deleteOnExit();
            ProcessBuilder builder = new ProcessBuilder(command).redirectError(err.toFile());
            builder.environment().clear();
            builder.environment().putAll(environment);
            process = builder.start();
            process.getOutputStream().close();
        }

        /** The next line that it prints, null where it ends without one. */
        String readLine() throws IOException {
            ByteArrayOutputStream line = new ByteArrayOutputStream();
            InputStream in = process.getInputStream();
            for (int b; (b = in.read()) != '\n'; ) {
                if (b < 0) {
                    return null;
                }
                line.write(b);
            }
            return line.toString(StandardCharsets.UTF_8);
        }

        /** Sends SIGTERM, and unlike the process's own method keeps its streams open. */
        void terminate() {
            process.toHandle().destroy();
        }

        /** Reads what it still prints, and waits for its end. */
        Run end() throws IOException, InterruptedException {
            byte[] out = process.getInputStream().readAllBytes();
            return new Run(program, process.waitFor(), out, Files.readString(err));
        }

        @Override
        public void close() {
            process.destroyForcibly();
        }
    }

    /** The command that starts a program of this module in a JVM of its own. */
    static List<String> java(Class<?> program, List<String> jvmFlags, String... args) {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        // Netty and protobuf use sun.misc.Unsafe, which newer JDKs warn of; older ones do not know the flag.
        command.addAll(List.of("-XX:+IgnoreUnrecognizedVMOptions", "--sun-misc-unsafe-memory-access=allow"));
        command.addAll(List.of("-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"));
        command.addAll(jvmFlags);
        // What is no module that another one requires lies on the class path.
        command.addAll(List.of("-cp", System.getProperty("java.class.path")));
        command.addAll(List.of("-p", System.getProperty("jdk.module.path")));
        command.addAll(List.of("-m", "homekv.cli/" + program.getName()));
        command.addAll(Arrays.asList(args));
        return command;
    }

    // ---- Seeds ----

    static int count(int sample, int full) {
        return FULL ? full : sample;
    }

    interface Seeded {
        void run(SplittableRandom random) throws Exception;
    }

    /** Runs the body with so many seeds, or with the one of the system property homekv.seed. A failure names its own. */
    static void seeded(int seeds, Seeded body) throws Exception {
        Long replayed = Long.getLong("homekv.seed");
        long first = replayed != null ? replayed : System.nanoTime();
        for (int i = 0; i < (replayed != null ? 1 : seeds); i++) {
            long seed = first + i;
            try {
                body.run(new SplittableRandom(seed));
            } catch (Exception | Error e) {
                throw new AssertionError("with -Dhomekv.seed=" + seed + ": " + e.getMessage(), e);
            }
        }
    }

    static byte[] randomBytes(SplittableRandom random, int maxLength) {
        byte[] bytes = new byte[random.nextInt(maxLength + 1)];
        random.nextBytes(bytes);
        return bytes;
    }

    /** Text of any characters that UTF-8 can write: all but surrogates, of all lengths in bytes alike. */
    static String randomText(SplittableRandom random, int maxLength) {
        int[] below = {0x80, 0x800, 0x10000, 0x110000};
        StringBuilder text = new StringBuilder();
        for (int length = random.nextInt(maxLength + 1); length > 0; length--) {
            int codePoint = random.nextInt(below[random.nextInt(below.length)]);
            text.appendCodePoint(codePoint >= 0xd800 && codePoint < 0xe000 ? 0xfffd : codePoint);
        }
        return text.toString();
    }

    /** Text that is hardly anything but escapes, halves of escapes and doubled backslashes. */
    static byte[] randomEscapes(SplittableRandom random, int maxLength) {
        String alphabet = "\\\\\\\\xxxX0aAfF9g=\u0000\u001b\u00c2\u0085\u00e2\u0082\u00ac\u00ff";
        StringBuilder text = new StringBuilder();
        for (int length = random.nextInt(maxLength + 1); length > 0; length--) {
            text.append(alphabet.charAt(random.nextInt(alphabet.length())));
        }
        return text.toString().getBytes(StandardCharsets.ISO_8859_1);
    }

    /** Any of the three above. */
    static byte[] randomContent(SplittableRandom random, int maxLength) {
        return switch (random.nextInt(3)) {
            case 0 -> randomBytes(random, maxLength);
            case 1 -> randomText(random, maxLength).getBytes(StandardCharsets.UTF_8);
            default -> randomEscapes(random, maxLength);
        };
    }
}
