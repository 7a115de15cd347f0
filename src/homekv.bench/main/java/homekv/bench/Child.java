package homekv.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * A JVM of its own for something that is measured, asked line by line over its standard streams: it answers each line
 * with one line, and ends when there are no more. What it writes to standard error appears on ours. For one thread.
 *
 * <p>Why a JVM each: the compiler speculates on the classes that it has seen at a call. Where several contenders have run
 * through the same code, none of them is as fast as it is alone.
 */
final class Child implements AutoCloseable {
    private final Process process;
    private final BufferedReader answers;
    private final PrintWriter questions;

    /** Starts {@code main} of a class on our own class path. */
    Child(List<String> flags, Class<?> main, String... arguments) throws IOException {
        List<String> command = new ArrayList<>();
        command.add(System.getProperty("java.home") + "/bin/java");
        command.addAll(flags);
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), main.getName()));
        command.addAll(List.of(arguments));
        process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        answers = process.inputReader();
        questions = new PrintWriter(process.outputWriter(), true);
    }

    long pid() {
        return process.pid();
    }

    /** What it answers. Blocks until then. */
    String ask(String question) throws IOException {
        questions.println(question);
        String answer = answers.readLine();
        if (answer == null) {
            throw new IOException("asked for " + question + ", a JVM ended; see above");
        }
        return answer;
    }

    /** Ends it. */
    @Override
    public void close() {
        questions.close();
        try {
            if (process.waitFor(5, TimeUnit.SECONDS)) {
                return;
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        process.destroyForcibly();
    }
}
