package homekv.image;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/**
 * A process that a test has started, and all that it has written. Closing it ends it.
 *
 * <p>Its environment is what the test gives and nothing else, not even a PATH.
 */
final class Program implements AutoCloseable {
    private static final long PATIENCE_SECONDS = 60;

    private final Process process;
    private final Output out;
    private final Output err;

    private Program(Process process) {
        this.process = process;
        this.out = new Output(process.getInputStream());
        this.err = new Output(process.getErrorStream());
    }

    /** All that has come out of a stream so far. */
    private static final class Output {
        private final StringBuffer text = new StringBuffer();
        private final Thread reader;

        Output(InputStream stream) {
            reader = Thread.startVirtualThread(() -> read(new InputStreamReader(stream, StandardCharsets.UTF_8)));
        }

        private void read(Reader stream) {
            try {
                var part = new char[8192];
                for (int length; (length = stream.read(part)) >= 0; ) text.append(part, 0, length);
            } catch (IOException failure) {
                text.append(failure);
            }
        }
    }

    static Program start(Map<String, String> environment, List<String> command) {
        try {
            var builder = new ProcessBuilder(command)
                    .redirectInput(
                            ProcessBuilder.Redirect.from(Path.of("/dev/null").toFile()));
            builder.environment().clear();
            builder.environment().putAll(environment);
            return new Program(builder.start());
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    static Program start(Path program, String... arguments) {
        return start(Map.of(), command(program, arguments));
    }

    /** Starts a program that ends by itself, and waits for that. */
    static Program run(Map<String, String> environment, List<String> command) {
        Program program = start(environment, command);
        program.awaitExit();
        return program;
    }

    static Program run(Path program, String... arguments) {
        return run(Map.of(), command(program, arguments));
    }

    static List<String> command(Path program, String... arguments) {
        var command = new ArrayList<>(List.of(program.toString()));
        command.addAll(List.of(arguments));
        return command;
    }

    /** Waits for the server's ready line and returns the port in it. */
    String awaitPort() {
        var port = Pattern.compile(".*:([0-9]+)\\b.*\n");
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
        while (System.nanoTime() < deadline) {
            var ready = port.matcher(out());
            if (ready.lookingAt()) return ready.group(1);
            if (!process.isAlive()) throw new AssertionError("ended with " + process.exitValue() + ": " + err());
            Thread.onSpinWait();
        }
        throw new AssertionError("no ready line but " + out() + err());
    }

    /** Waits until it has written this, or has ended; whether it has written it. */
    boolean awaitOutput(String text) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
        while (!out().contains(text) && System.nanoTime() < deadline) {
            if (!process.isAlive()) {
                awaitExit();
                return out().contains(text);
            }
            Thread.onSpinWait();
        }
        return out().contains(text);
    }

    long pid() {
        return process.pid();
    }

    int awaitExit() {
        try {
            boolean ended = process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS);
            if (!ended) process.destroyForcibly();
            assertTrue(ended, () -> "still running: " + out() + err());
            out.reader.join();
            err.reader.join();
            return process.exitValue();
        } catch (InterruptedException interrupted) {
            throw new AssertionError(interrupted);
        }
    }

    /** Sends SIGTERM and returns the exit code. */
    int terminate() {
        process.destroy();
        return awaitExit();
    }

    /** Sends SIGKILL and waits for the end. */
    void kill() {
        process.destroyForcibly();
        awaitExit();
    }

    String out() {
        return out.text.toString();
    }

    String err() {
        return err.text.toString();
    }

    @Override
    public void close() {
        process.destroyForcibly();
    }
}
