package homekv.image;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
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
    private final Path out;
    private final Path err;

    private Program(Process process, Path out, Path err) {
        this.process = process;
        this.out = out;
        this.err = err;
    }

    static Program start(Map<String, String> environment, List<String> command) {
        try {
            Path out = Files.createTempFile("homekv", ".out");
            Path err = Files.createTempFile("homekv", ".err");
            out.toFile().deleteOnExit();
            err.toFile().deleteOnExit();
            var builder = new ProcessBuilder(command)
                    .redirectInput(
                            ProcessBuilder.Redirect.from(Path.of("/dev/null").toFile()))
                    .redirectOutput(out.toFile())
                    .redirectError(err.toFile());
            builder.environment().clear();
            builder.environment().putAll(environment);
            return new Program(builder.start(), out, err);
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

    int awaitExit() {
        try {
            boolean ended = process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS);
            if (!ended) process.destroyForcibly();
            assertTrue(ended, () -> "still running: " + out() + err());
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

    String out() {
        return read(out);
    }

    String err() {
        return read(err);
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    @Override
    public void close() {
        process.destroyForcibly();
    }
}
