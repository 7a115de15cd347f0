package homekv.cli;

import homekv.rpc.HomeKvClient;
import homekv.rpc.HomeKvException;
import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.logging.Level;

/** The client program: one command to a server, its result on standard output, everything else on standard error. */
public final class Hkvctl {
    private static final String HELP = """
            hkvctl: talks to a HomeKV server

              hkvctl set KEY=VALUE [KEY=VALUE ...]   sets all pairs or none       OK revision=7
                [--ttl TIME | --lease ID]            for a time, or with a lease  OK revision=7 lease=81
              hkvctl get KEY [KEY ...] [--rev R]     reads keys of one moment     KEY=VALUE or KEY (not found)
              hkvctl del KEY [KEY ...]               deletes all keys or none     OK deleted=2 revision=8
              hkvctl scan [--prefix P | --from A --to B]                          KEY=VALUE for each key, in order
                [--limit N] [--reverse] [--rev R]
                [--keys-only | --count-only]                                      KEY for each key | a number
              hkvctl metrics                         what the server holds        keys_count: 3 ...

            Reading and writing at once:
              hkvctl cas KEY --expect V --set W      sets W if KEY has V          OK revision=7, else exit code 4
              hkvctl cas KEY --absent --set W        sets W if KEY is not there   the same
              hkvctl incr KEY [BY]                   adds 1 or BY to a number     the sum
              hkvctl getset KEY VALUE                sets                         what get would have printed before
              hkvctl getdel KEY                      deletes                      the same
              hkvctl txn [FILE|-]                    a transaction from a script; hkvctl txn --help tells how

            The past, as far back as the server keeps it:
              hkvctl history KEY                     revision=7 version=2 KEY=VALUE or revision=9 KEY (deleted)
              hkvctl diff --rev A..B [--prefix P]    - KEY=VALUE as it was at A, + KEY=VALUE as it is at B
              hkvctl compact REVISION                gives up what is older       OK
              hkvctl watch [KEY | --prefix P]        prints changes as they come, as history does, until Ctrl-C
                [--from-rev R] [--prev]              from revision R on; with was=VALUE in front of KEY

            Leases: keys set with one are deleted when it has not been kept alive for its time (30s, 5m; a number
            alone is seconds). A key lets go of its lease when it is set, cas or getset anew; incr leaves it there.
              hkvctl lease grant TIME                OK lease=81
              hkvctl lease keep-alive ID             lease=81 ttl=30s left=30s keys=2
              hkvctl lease time-left ID              the same; hkvctl lease list for all
              hkvctl lease revoke ID                 OK deleted=2 revision=9

            Files (- is standard input or output; a FILE is complete or not there):
              hkvctl backup FILE|-                   the whole store; homekv can begin with it
              hkvctl export FILE|-                   KEY and VALUE as JSON, a pair a line
                [--prefix P] [--rev R]               hkvctl export --help tells how
              hkvctl import FILE|-                   sets the pairs of such lines
                [--skip-lines N]                     but the first N
              hkvctl snapshot                        OK revision=7 keys=3 bytes=345 file=snapshot-0000000000000002:
                                                     the server's own file, with which it starts sooner

            How fast the server is:
              hkvctl bench get|set|mixed             calls a second, and for each second of the server's processors;
                                                     hkvctl bench --help tells how

            Any command can be written in long form:
              hkvctl --cmd set --kvs KEY=VALUE [KEY=VALUE ...]
              hkvctl --cmd get|del --keys KEY [KEY ...]
              hkvctl --cmd metrics

            Flags, before, between or after the rest:
              -h, --host [HOST]   where the server is; 127.0.0.1 without HOST or without the flag
              -p, --port PORT     its port; 20001 by default
              --timeout TIME      how long to wait for an answer: 500ms, 5s, 2m; 5s by default. A watch waits for
                                  changes without end, but only this long for a server that it has lost
              --                  what follows is a key, a pair or a command, even if it begins with -
              --help, --version

            Where the server keeps its data, the OK of set, del, cas and txn ends with sync=always, sync=interval or
            sync=never: when it is forced to the disk, as homekv --help tells. It holds for every write of that server.

            A pair is split at its first =; an empty value is a value. Bytes that are not UTF-8 and control
            characters are shown, and can be given, as \\xHH (two hexadecimal digits), and so is = within a key
            (\\x3d) and a space within was=VALUE. Any other backslash is a backslash.

            Exit code: 0 done (a key that is not there is no failure), 1 the server refused, or the result cannot be
            written, 2 the command line or what it names to be read is wrong, 4 a comparison did not hold, 5 the
            server is unknown, unreachable or too slow.
            """;

    /** The flags that every command takes. */
    private static final Set<String> COMMON_FLAGS =
            Set.of("--cmd", "--host", "--port", "--timeout", "--help", "--version");

    private static final Map<String, Arguments.Takes> FLAGS = flags();

    private static final Map<String, String> SHORT_FLAGS = Map.of("-h", "--host", "-p", "--port");

    /** Set by the launcher: 1 in it for standard output, 2 for standard error, where that is a terminal. */
    private static final String TERMINALS = System.getProperty("homekv.terminals", "");

    /** What is to be done where the process is interrupted, or told to end, while the command is carried out. */
    private static volatile Runnable whenInterrupted = () -> {};

    /** Where the server is, and how long to wait for its answers. */
    record Server(String host, int port, Duration timeout) {
        static Server of(Arguments arguments) throws UsageException {
            return new Server(
                    Text.utf8(arguments.value("--host").orElse(Program.DEFAULT_HOST)),
                    (int) arguments.number("--port", Program.DEFAULT_PORT, 1, Program.MAX_PORT),
                    Arguments.time("--timeout", arguments.value("--timeout").orElse("5s"), Duration.ofMillis(1)));
        }
    }

    private final Output out;
    private final InputStream in;
    private final Progress progress;

    private Hkvctl(Output out, InputStream in, Progress progress) {
        this.out = out;
        this.in = in;
        this.progress = progress;
    }

    private static Map<String, Arguments.Takes> flags() {
        Map<String, Arguments.Takes> flags = new HashMap<>();
        for (String flag : List.of("--kvs", "--keys")) {
            flags.put(flag, Arguments.Takes.OPERANDS);
        }
        for (String flag : List.of("--reverse", "--keys-only", "--count-only", "--absent", "--prev")) {
            flags.put(flag, Arguments.Takes.NOTHING);
        }
        for (String flag : List.of(
                "--rev",
                "--ttl",
                "--lease",
                "--prefix",
                "--from",
                "--to",
                "--limit",
                "--expect",
                "--set",
                "--from-rev",
                "--skip-lines")) {
            flags.put(flag, Arguments.Takes.VALUE);
        }
        flags.putAll(Bench.FLAGS);
        flags.put("--cmd", Arguments.Takes.VALUE);
        flags.put("--host", Arguments.Takes.VALUE_OR_NOTHING);
        flags.put("--port", Arguments.Takes.VALUE);
        flags.put("--timeout", Arguments.Takes.VALUE);
        flags.put("--help", Arguments.Takes.NOTHING);
        flags.put("--version", Arguments.Takes.NOTHING);
        return Map.copyOf(flags);
    }

    /** Runs the program and ends the JVM with its exit code. */
    public static void main(String[] args) {
        OutputStream out = new BufferedOutputStream(new FileOutputStream(FileDescriptor.out));
        PrintStream err = new PrintStream(new FileOutputStream(FileDescriptor.err), true, StandardCharsets.UTF_8);
        Program.logOnly(Level.OFF); // What goes wrong is said in one line, below.
        Thread stop = new Thread(Hkvctl::interrupted, "hkvctl-stop");
        Runtime.getRuntime().addShutdownHook(stop);
        end(run(Arguments.typed(args), System.in, out, err), stop);
    }

    /**
     * Nothing is left to be done: the result has been written, and the connection is closed. An exit would look for a
     * logger that wants to know of it, and for nothing else that is there.
     */
    private static void end(int exitCode, Thread stop) {
        try {
            Runtime.getRuntime().removeShutdownHook(stop);
        } catch (IllegalStateException interrupted) {
            System.exit(exitCode); // Waits: the JVM is about to end with the exit code of an interrupt.
        }
        Runtime.getRuntime().halt(exitCode);
    }

    /** From now on it is no failure if the process is interrupted: it ends with 0, and not with 130 or 143. */
    static void endWellWhenInterrupted() {
        whenInterrupted(() -> Runtime.getRuntime().halt(Program.DONE));
    }

    /** From now on has {@code action} run if the process is interrupted, until the command has been carried out. */
    static void whenInterrupted(Runnable action) {
        whenInterrupted = action;
    }

    private static void interrupted() {
        whenInterrupted.run();
    }

    /** Whether standard output is a terminal. */
    static boolean isOutputTerminal() {
        return TERMINALS.contains("1");
    }

    /** Runs one command and returns its exit code. Arguments are one {@code char} a byte. */
    static int run(List<String> args, InputStream in, OutputStream out, PrintStream err) {
        Progress progress = new Progress(err, TERMINALS.contains("2"), System::nanoTime);
        try {
            return new Hkvctl(new Output(out), in, progress).run(args);
        } catch (UsageException e) {
            err.println("hkvctl: " + e.getMessage());
            return Program.USAGE;
        } catch (Commands.FailedException e) {
            err.println("hkvctl: " + e.getMessage());
            return e.exitCode;
        } catch (HomeKvException e) {
            err.println("hkvctl: " + Text.oneLine(e.getMessage()));
            return exitCode(e);
        } catch (IOException e) {
            if ("Broken pipe".equals(e.getMessage())) {
                return Program.DONE; // Whoever reads this has had enough, as head has after ten lines.
            }
            err.println("hkvctl: cannot write the result: " + e.getMessage());
            return Program.REFUSED;
        } finally {
            whenInterrupted = () -> {};
        }
    }

    static int exitCode(HomeKvException e) {
        return e.reason() == HomeKvException.Reason.UNREACHABLE ? Program.UNREACHABLE : Program.REFUSED;
    }

    private int run(List<String> args) throws UsageException, IOException, Commands.FailedException {
        Arguments arguments = Arguments.parse(args, FLAGS, SHORT_FLAGS);
        if (arguments.has("--help")) {
            boolean alone = !arguments.has("--cmd") && arguments.operands().size() == 1;
            String command = alone
                    ? arguments.operands().get(0)
                    : arguments.value("--cmd").orElse("");
            out.print(
                    switch (command) {
                        case "bench" -> Bench.HELP;
                        case "txn" -> TxnScript.HELP;
                        case "export", "import" -> PairReader.HELP;
                        default -> HELP;
                    });
            out.flush();
            return Program.DONE;
        }
        if (arguments.has("--version")) {
            out.line("hkvctl " + Program.version());
            out.flush();
            return Program.DONE;
        }
        Server server = Server.of(arguments);
        Commands.Command command = Commands.read(arguments, COMMON_FLAGS, in, progress);
        try (HomeKvClient client = new HomeKvClient(server.host(), server.port(), server.timeout())) {
            return command.run(client, out);
        } finally {
            out.flush(); // What was found stands in front of what then went wrong.
        }
    }
}
