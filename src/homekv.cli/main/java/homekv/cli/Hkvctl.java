package homekv.cli;

import homekv.rpc.HomeKvClient;
import homekv.rpc.HomeKvException;
import homekv.storage.Bytes;
import homekv.storage.Write;
import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The client program: one command to a server, its result on standard output, everything else on standard error. */
public final class Hkvctl {
    private static final String HELP = """
            hkvctl: sets, gets and deletes keys of a HomeKV server

              hkvctl set KEY=VALUE [KEY=VALUE ...]   sets all pairs or none       OK revision=7
              hkvctl get KEY [KEY ...]               reads keys of one moment     KEY=VALUE or KEY (not found)
              hkvctl del KEY [KEY ...]               deletes all keys or none     OK deleted=2 revision=8
              hkvctl metrics                         what the server holds        keys_count: 3 ...

            The same in long form:
              hkvctl --cmd set --kvs KEY=VALUE [KEY=VALUE ...]
              hkvctl --cmd get|del --keys KEY [KEY ...]
              hkvctl --cmd metrics

            Flags, before, between or after the rest:
              -h, --host [HOST]   where the server is; 127.0.0.1 without HOST or without the flag
              -p, --port PORT     its port; 20001 by default
              --timeout TIME      how long to wait for it: 500ms, 5s, 2m; 5s by default
              --                  what follows is a key, a pair or a command, even if it begins with -
              --help, --version

            A pair is split at its first =; an empty value is a value. Bytes that are not UTF-8 and control
            characters are shown, and can be given, as \\xHH (two hexadecimal digits), and so is = within a key
            (\\x3d). Any other backslash is a backslash.

            Exit code: 0 done (a key that is not there is no failure), 1 the server refused, 2 the command line
            is wrong, 5 the server is unknown, unreachable or too slow.
            """;

    private static final Map<String, Arguments.Takes> FLAGS = Map.of(
            "--cmd", Arguments.Takes.VALUE,
            "--kvs", Arguments.Takes.OPERANDS,
            "--keys", Arguments.Takes.OPERANDS,
            "--host", Arguments.Takes.VALUE_OR_NOTHING,
            "--port", Arguments.Takes.VALUE,
            "--timeout", Arguments.Takes.VALUE,
            "--help", Arguments.Takes.NOTHING,
            "--version", Arguments.Takes.NOTHING);

    private static final Map<String, String> SHORT_FLAGS = Map.of("-h", "--host", "-p", "--port");

    private static final Pattern TIME = Pattern.compile("([0-9]{1,9})(ms|s|m|)");

    private final OutputStream out;

    private Hkvctl(OutputStream out) {
        this.out = out;
    }

    /** Runs the program and ends the JVM with its exit code. */
    public static void main(String[] args) {
        OutputStream out = new BufferedOutputStream(new FileOutputStream(FileDescriptor.out));
        PrintStream err = new PrintStream(new FileOutputStream(FileDescriptor.err), true, StandardCharsets.UTF_8);
        Program.logOnly(Level.OFF); // What goes wrong is said in one line, below.
        System.exit(run(Arguments.typed(args), out, err));
    }

    /** Runs one command and returns its exit code. Arguments are one {@code char} a byte. */
    static int run(List<String> args, OutputStream out, PrintStream err) {
        try {
            new Hkvctl(out).run(args);
            out.flush();
            return Program.DONE;
        } catch (UsageException e) {
            err.println("hkvctl: " + e.getMessage());
            return Program.USAGE;
        } catch (HomeKvException e) {
            err.println("hkvctl: " + Text.oneLine(e.getMessage()));
            return e.reason() == HomeKvException.Reason.UNREACHABLE ? Program.UNREACHABLE : Program.REFUSED;
        } catch (IOException e) {
            err.println("hkvctl: cannot write the result: " + e.getMessage());
            return Program.REFUSED;
        }
    }

    private void run(List<String> args) throws UsageException, IOException {
        Arguments arguments = Arguments.parse(args, FLAGS, SHORT_FLAGS);
        if (arguments.has("--help")) {
            print(HELP);
        } else if (arguments.has("--version")) {
            print("hkvctl " + Program.version() + "\n");
        } else {
            send(arguments);
        }
    }

    private void send(Arguments arguments) throws UsageException, IOException {
        List<String> operands = new ArrayList<>(arguments.operands());
        if (!arguments.has("--cmd") && operands.isEmpty()) {
            throw new UsageException("no command; write get, set, del or metrics, or see --help");
        }
        String command = arguments.has("--cmd") ? arguments.value("--cmd").orElseThrow() : operands.remove(0);
        String host = Text.utf8(arguments.value("--host").orElse(Program.DEFAULT_HOST));
        int port = (int) arguments.number("--port", Program.DEFAULT_PORT, 1, Program.MAX_PORT);
        Duration timeout = timeout(arguments.value("--timeout").orElse("5s"));
        switch (command) {
            case "get" -> {
                List<Bytes> keys = keys(arguments, command, operands);
                try (HomeKvClient client = new HomeKvClient(host, port, timeout)) {
                    printFound(keys, client.get(keys));
                }
            }
            case "set" -> {
                List<Write> pairs = pairs(arguments, operands);
                try (HomeKvClient client = new HomeKvClient(host, port, timeout)) {
                    printWritten(client.set(pairs));
                }
            }
            case "del" -> {
                List<Bytes> keys = keys(arguments, command, operands);
                try (HomeKvClient client = new HomeKvClient(host, port, timeout)) {
                    printWritten(client.del(keys));
                }
            }
            case "metrics" -> {
                if (!operands.isEmpty()) {
                    throw new UsageException("metrics takes nothing behind it");
                }
                try (HomeKvClient client = new HomeKvClient(host, port, timeout)) {
                    printMetrics(client.metrics());
                }
            }
            default ->
                throw new UsageException((arguments.has("--cmd") || !arguments.has("--keys") && !arguments.has("--kvs")
                                ? "unknown command " + Text.show(command)
                                : "no command")
                        + "; write get, set, del or metrics, or see --help");
        }
    }

    private static List<Bytes> keys(Arguments arguments, String command, List<String> operands) throws UsageException {
        if (arguments.has("--kvs")) {
            throw new UsageException(command + " takes --keys, not --kvs");
        }
        if (operands.isEmpty()) {
            throw new UsageException(command + " needs at least one key");
        }
        return operands.stream().map(Text::bytes).toList();
    }

    private static List<Write> pairs(Arguments arguments, List<String> operands) throws UsageException {
        if (arguments.has("--keys")) {
            throw new UsageException("set takes --kvs, not --keys");
        }
        if (operands.isEmpty()) {
            throw new UsageException("set needs at least one pair, KEY=VALUE");
        }
        List<Write> pairs = new ArrayList<>(operands.size());
        for (String operand : operands) {
            int equals = operand.indexOf('=');
            if (equals < 0) {
                throw new UsageException(Text.show(operand) + " is not a pair; write KEY=VALUE");
            }
            pairs.add(
                    new Write.Put(Text.bytes(operand.substring(0, equals)), Text.bytes(operand.substring(equals + 1))));
        }
        return pairs;
    }

    private static Duration timeout(String text) throws UsageException {
        Matcher time = TIME.matcher(text);
        if (!time.matches() || Long.parseLong(time.group(1)) == 0) {
            throw new UsageException("--timeout takes a time such as 500ms, 5s or 2m, not " + Text.show(text));
        }
        long number = Long.parseLong(time.group(1));
        return switch (time.group(2)) {
            case "ms" -> Duration.ofMillis(number);
            case "m" -> Duration.ofMinutes(number);
            default -> Duration.ofSeconds(number);
        };
    }

    private void printFound(List<Bytes> keys, HomeKvClient.Found found) throws IOException {
        for (int i = 0; i < keys.size(); i++) {
            Bytes value = found.values().get(i);
            String key = Text.showKey(keys.get(i));
            print(value == null ? key + " (not found)\n" : key + "=" + Text.showValue(value) + "\n");
        }
    }

    private void printWritten(HomeKvClient.Written written) throws IOException {
        StringBuilder line = new StringBuilder("OK");
        written.deleted().ifPresent(deleted -> line.append(" deleted=").append(deleted));
        written.revision().ifPresent(revision -> line.append(" revision=").append(Long.toUnsignedString(revision)));
        print(line.append('\n').toString());
    }

    private void printMetrics(Map<String, Long> metrics) throws IOException {
        for (Map.Entry<String, Long> metric : metrics.entrySet()) {
            print(metric.getKey() + ": " + Long.toUnsignedString(metric.getValue()) + "\n");
        }
    }

    /** Prints text that has one {@code char} a byte. */
    private void print(String text) throws IOException {
        out.write(text.getBytes(StandardCharsets.ISO_8859_1));
    }
}
