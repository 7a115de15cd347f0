package homekv.cli;

import homekv.rpc.HomeKvClient;
import homekv.rpc.HomeKvException;
import homekv.rpc.ReadStream;
import homekv.rpc.ScanOptions;
import homekv.rpc.WatchOptions;
import homekv.rpc.WatchStream;
import homekv.storage.Bytes;
import homekv.storage.Difference;
import homekv.storage.Entry;
import homekv.storage.Event;
import homekv.storage.LeaseStatus;
import homekv.storage.Range;
import homekv.storage.Txn;
import homekv.storage.Write;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The commands of hkvctl: each is read from its arguments as a whole, so that nothing is sent for a command line that is
 * wrong, and then carried out.
 */
final class Commands {
    /** A command that has been read: talks to the server, prints, and returns the exit code. */
    interface Command {
        int run(HomeKvClient client, Output out) throws IOException, UsageException, FailedException;
    }

    /** The command was not carried out, or not to its end. The message is one line that says why. */
    static final class FailedException extends Exception {
        private static final long serialVersionUID = 1;

        final int exitCode;

        FailedException(int exitCode, String message) {
            super(message);
            this.exitCode = exitCode;
        }
    }

    private static final Duration SHORTEST = Duration.ofMillis(1);

    /** The flags that each command takes besides those that all take. */
    private static final Map<String, Set<String>> FLAGS = flags();

    private final Arguments arguments;
    private final String name;
    private final List<String> operands;
    private final InputStream in;
    private final Progress progress;

    private Commands(Arguments arguments, String name, List<String> operands, InputStream in, Progress progress) {
        this.arguments = arguments;
        this.name = name;
        this.operands = operands;
        this.in = in;
        this.progress = progress;
    }

    private static Map<String, Set<String>> flags() {
        Map<String, Set<String>> flags = new HashMap<>();
        flags.put("get", Set.of("--keys", "--rev"));
        flags.put("set", Set.of("--kvs", "--ttl", "--lease"));
        flags.put("del", Set.of("--keys"));
        flags.put("metrics", Set.of());
        flags.put(
                "scan",
                Set.of("--prefix", "--from", "--to", "--limit", "--reverse", "--keys-only", "--count-only", "--rev"));
        flags.put("cas", Set.of("--keys", "--expect", "--absent", "--set"));
        flags.put("incr", Set.of());
        flags.put("getset", Set.of());
        flags.put("getdel", Set.of("--keys"));
        flags.put("txn", Set.of());
        flags.put("history", Set.of("--keys"));
        flags.put("diff", Set.of("--rev", "--prefix"));
        flags.put("compact", Set.of());
        flags.put("watch", Set.of("--keys", "--prefix", "--from-rev", "--prev"));
        flags.put("lease", Set.of());
        flags.put("snapshot", Set.of());
        flags.put("backup", Set.of());
        flags.put("export", Set.of("--prefix", "--rev"));
        flags.put("import", Set.of("--skip-lines"));
        flags.put("bench", Bench.FLAGS.keySet());
        return Map.copyOf(flags);
    }

    /**
     * Reads a command.
     *
     * @param forAll the flags that every command takes
     * @param in where txn reads its script and import its pairs, if they are not in a file
     * @param progress what tells how far a long command is
     */
    static Command read(Arguments arguments, Set<String> forAll, InputStream in, Progress progress)
            throws UsageException {
        List<String> operands = new ArrayList<>(arguments.operands());
        if (!arguments.has("--cmd") && operands.isEmpty()) {
            throw new UsageException("no command; write get, set, del, scan or another, --help lists them");
        }
        String name = arguments.has("--cmd") ? arguments.value("--cmd").orElseThrow() : operands.remove(0);
        Set<String> flags = FLAGS.get(name);
        if (flags == null) {
            boolean noCommand = !arguments.has("--cmd") && (arguments.has("--keys") || arguments.has("--kvs"));
            throw new UsageException((noCommand ? "no command" : "unknown command " + Text.show(name))
                    + "; write get, set, del, scan or another, --help lists them");
        }
        if (flags.isEmpty() && name.equals("metrics") && !operands.isEmpty()) {
            throw new UsageException("metrics takes nothing behind it");
        }
        for (String flag : arguments.flags()) {
            if (!flags.contains(flag) && !forAll.contains(flag)) {
                String instead = flag.equals("--kvs") && flags.contains("--keys")
                        ? "--keys, not "
                        : flag.equals("--keys") && flags.contains("--kvs") ? "--kvs, not " : "no ";
                throw new UsageException(name + " takes " + instead + flag);
            }
        }
        return new Commands(arguments, name, operands, in, progress).read();
    }

    private Command read() throws UsageException {
        return switch (name) {
            case "get" -> get();
            case "set" -> set();
            case "del" -> del();
            case "metrics" ->
                (client, out) -> {
                    out.metrics(client.metrics());
                    return Program.DONE;
                };
            case "scan" -> scan();
            case "cas" -> cas();
            case "incr" -> incr();
            case "getset" -> getset();
            case "getdel" -> getdel();
            case "txn" -> txn();
            case "history" -> history();
            case "diff" -> diff();
            case "compact" -> compact();
            case "watch" -> watch();
            case "lease" -> lease();
            case "snapshot" -> snapshot();
            case "backup" -> backup();
            case "export" -> export();
            case "import" -> importPairs();
            case "bench" -> {
                Bench bench = new Bench(arguments, operands, progress);
                yield (client, out) -> bench.run(out);
            }
            default -> throw new AssertionError("flags but no command: " + name);
        };
    }

    // ---- Keys by name ----

    private Command get() throws UsageException {
        List<Bytes> keys = keys();
        long revision = revision();
        return (client, out) -> {
            HomeKvClient.Found found = revision < 0 ? client.get(keys) : client.get(keys, revision);
            for (int i = 0; i < keys.size(); i++) {
                out.found(keys.get(i), found.values().get(i));
            }
            return Program.DONE;
        };
    }

    private Command set() throws UsageException {
        List<Map.Entry<Bytes, Bytes>> pairs = pairs();
        if (arguments.has("--ttl")) {
            if (arguments.has("--lease")) {
                throw new UsageException("set takes --ttl or --lease, not both");
            }
            Duration timeToLive =
                    Arguments.time("--ttl", arguments.value("--ttl").orElseThrow(), SHORTEST);
            return (client, out) -> {
                long lease = client.grantLease(timeToLive);
                out.written(setOrRevoke(client, writes(pairs, lease), lease), lease);
                return Program.DONE;
            };
        }
        long lease = arguments.number("--lease", 0, 1, Long.MAX_VALUE);
        return (client, out) -> {
            HomeKvClient.Written written = client.set(writes(pairs, lease));
            if (lease == 0) {
                out.written(written);
            } else {
                out.written(written, lease);
            }
            return Program.DONE;
        };
    }

    private static HomeKvClient.Written setOrRevoke(HomeKvClient client, List<Write> writes, long lease) {
        try {
            return client.set(writes);
        } catch (HomeKvException e) {
            if (e.reason() != HomeKvException.Reason.UNREACHABLE) {
                try {
                    client.revokeLease(lease);
                } catch (HomeKvException alsoRefused) {
                    e.addSuppressed(alsoRefused); // No harm: the lease has no keys, and ends by itself.
                }
            }
            throw e;
        }
    }

    private List<Map.Entry<Bytes, Bytes>> pairs() throws UsageException {
        if (operands.isEmpty()) {
            throw new UsageException("set needs at least one pair, KEY=VALUE");
        }
        List<Map.Entry<Bytes, Bytes>> pairs = new ArrayList<>(operands.size());
        for (String operand : operands) {
            int equals = operand.indexOf('=');
            if (equals < 0) {
                throw new UsageException(Text.show(operand) + " is not a pair; write KEY=VALUE");
            }
            pairs.add(Map.entry(Text.bytes(operand.substring(0, equals)), Text.bytes(operand.substring(equals + 1))));
        }
        return pairs;
    }

    private static List<Write> writes(List<Map.Entry<Bytes, Bytes>> pairs, long lease) {
        List<Write> writes = new ArrayList<>(pairs.size());
        pairs.forEach(pair -> writes.add(new Write.Put(pair.getKey(), pair.getValue(), lease)));
        return writes;
    }

    private Command del() throws UsageException {
        List<Bytes> keys = keys();
        return (client, out) -> {
            out.written(client.del(keys));
            return Program.DONE;
        };
    }

    private List<Bytes> keys() throws UsageException {
        if (operands.isEmpty()) {
            throw new UsageException(name + " needs at least one key");
        }
        return operands.stream().map(Text::bytes).toList();
    }

    // ---- One key, read and written at once ----

    private Command cas() throws UsageException {
        String form = "KEY --expect VALUE|--absent --set VALUE";
        Bytes key = Text.bytes(operands(1, 1, form).get(0));
        if (arguments.has("--expect") == arguments.has("--absent") || !arguments.has("--set")) {
            throw new UsageException("write cas " + form);
        }
        Bytes expected = arguments.value("--expect").map(Text::bytes).orElse(null);
        Bytes value = Text.bytes(arguments.value("--set").orElseThrow());
        return (client, out) -> {
            HomeKvClient.Swapped swapped = client.compareAndSet(key, expected, value);
            if (!swapped.done()) {
                Entry found = swapped.found();
                throw new FailedException(
                        Program.COMPARISON_FAILED,
                        Text.brief(Text.showKey(key))
                                + (found == null
                                        ? " is not there"
                                        : " has the value " + Text.brief(Text.showValue(found.value())))
                                + "; nothing was changed");
            }
            out.written(swapped);
            return Program.DONE;
        };
    }

    private Command incr() throws UsageException {
        operands(1, 2, "KEY [BY]");
        Bytes key = Text.bytes(operands.get(0));
        long by = operands.size() == 1 ? 1 : Arguments.number("incr", operands.get(1), Long.MIN_VALUE, Long.MAX_VALUE);
        return (client, out) -> {
            out.line(Long.toString(client.increment(key, by)));
            return Program.DONE;
        };
    }

    private Command getset() throws UsageException {
        operands(2, 2, "KEY VALUE");
        Bytes key = Text.bytes(operands.get(0));
        Bytes value = Text.bytes(operands.get(1));
        return (client, out) -> {
            out.found(key, client.getAndSet(key, value));
            return Program.DONE;
        };
    }

    private Command getdel() throws UsageException {
        Bytes key = Text.bytes(operands(1, 1, "KEY").get(0));
        return (client, out) -> {
            out.found(key, client.getAndDelete(key));
            return Program.DONE;
        };
    }

    private Command txn() throws UsageException {
        operands(0, 1, "[FILE|-], with the script in FILE or on standard input");
        Txn txn =
                TxnScript.parse(operands.isEmpty() || operands.get(0).equals("-") ? script() : script(operands.get(0)));
        return (client, out) -> {
            HomeKvClient.Transacted result = client.transact(txn);
            out.transacted(txn, result);
            return result.succeeded() ? Program.DONE : Program.COMPARISON_FAILED;
        };
    }

    private String script() throws UsageException {
        try {
            return new String(in.readAllBytes(), StandardCharsets.ISO_8859_1);
        } catch (IOException e) {
            throw new UsageException("cannot read the script from standard input: " + Text.oneLine(e.getMessage()));
        }
    }

    private static String script(String file) throws UsageException {
        try {
            return Files.readString(Path.of(Text.utf8(file)), StandardCharsets.ISO_8859_1);
        } catch (IOException | InvalidPathException e) {
            throw new UsageException(
                    "cannot read the script from the file " + Text.show(file) + "; is it there, and may it be read?");
        }
    }

    // ---- Ranges and the past ----

    private Command scan() throws UsageException {
        operands(0, 0, "[--prefix P|--from A --to B], or nothing for every key");
        Range range = range();
        long revision = revision();
        if (arguments.has("--count-only")) {
            for (String flag : List.of("--limit", "--reverse", "--keys-only")) {
                if (arguments.has(flag)) {
                    throw new UsageException("--count-only counts all keys of the range; leave " + flag + " out");
                }
            }
            return (client, out) -> {
                out.line(Long.toUnsignedString(revision < 0 ? client.count(range) : client.count(range, revision)));
                return Program.DONE;
            };
        }
        boolean keysOnly = arguments.has("--keys-only");
        ScanOptions options = ScanOptions.of(range).atMost(arguments.number("--limit", 0, 1, Long.MAX_VALUE));
        options = arguments.has("--reverse") ? options.backwards() : options;
        options = keysOnly ? options.withoutValues() : options;
        ScanOptions scan = revision < 0 ? options : options.at(revision);
        return (client, out) -> {
            try (ReadStream<Entry> entries = client.scan(scan)) {
                while (entries.hasNext()) {
                    if (keysOnly) {
                        out.key(entries.next().key());
                    } else {
                        out.entry(entries.next());
                    }
                }
            }
            return Program.DONE;
        };
    }

    private Command history() throws UsageException {
        Bytes key = Text.bytes(operands(1, 1, "KEY").get(0));
        return (client, out) -> {
            try (ReadStream<Event> events = client.history(key)) {
                while (events.hasNext()) {
                    out.event(events.next());
                }
            }
            return Program.DONE;
        };
    }

    private Command diff() throws UsageException {
        String form = "--rev A..B [--prefix P], from an earlier revision to a later one";
        operands(0, 0, form);
        String[] ends = arguments.value("--rev").orElse("").split("\\.\\.", -1);
        if (ends.length != 2) {
            throw new UsageException("write diff " + form);
        }
        long from = Arguments.number("--rev", ends[0], 0, Long.MAX_VALUE);
        long to = Arguments.number("--rev", ends[1], from, Long.MAX_VALUE);
        Range range = range();
        return (client, out) -> {
            try (ReadStream<Difference> differences = client.differences(range, from, to)) {
                while (differences.hasNext()) {
                    out.difference(differences.next());
                }
            }
            return Program.DONE;
        };
    }

    private Command compact() throws UsageException {
        long revision = Arguments.number("compact", operands(1, 1, "REVISION").get(0), 0, Long.MAX_VALUE);
        return (client, out) -> {
            client.compact(revision);
            out.line("OK");
            return Program.DONE;
        };
    }

    private Command watch() throws UsageException {
        operands(0, 1, "[KEY|--prefix P], or nothing for every key");
        if (!operands.isEmpty() && arguments.has("--prefix")) {
            throw new UsageException("watch takes a KEY or --prefix, not both");
        }
        if (operands.contains("")) {
            throw new UsageException("watch takes a KEY of at least one byte, or nothing for every key");
        }
        WatchOptions options = WatchOptions.of(operands.isEmpty() ? range() : Range.key(Text.bytes(operands.get(0))));
        options = arguments.has("--prev") ? options.withPrevious() : options;
        long from = arguments.number("--from-rev", 0, 1, Long.MAX_VALUE);
        WatchOptions watched = from == 0 ? options : options.from(from);
        return (client, out) -> {
            try (WatchStream watch = client.watch(watched)) {
                Hkvctl.endWellWhenInterrupted();
                while (true) {
                    for (Event event : watch.next()) {
                        out.event(event);
                    }
                    out.flush();
                }
            }
        };
    }

    /** The revision of --rev, -1 without. */
    private long revision() throws UsageException {
        return arguments.number("--rev", -1, 0, Long.MAX_VALUE);
    }

    private Range range() throws UsageException {
        if (arguments.has("--prefix")) {
            if (arguments.has("--from") || arguments.has("--to")) {
                throw new UsageException(name + " takes --prefix, or --from and --to, not both");
            }
            return Range.prefix(Text.bytes(arguments.value("--prefix").orElseThrow()));
        }
        Bytes from = Text.bytes(arguments.value("--from").orElse(""));
        return new Range(from, arguments.value("--to").map(Text::bytes).orElse(null));
    }

    // ---- Leases ----

    private Command lease() throws UsageException {
        String form = "grant TIME, keep-alive ID, revoke ID, time-left ID or list";
        String what = operands(1, 2, form).get(0);
        if (what.equals("list") != (operands.size() == 1)) {
            throw new UsageException("write lease " + form);
        }
        return switch (what) {
            case "grant" -> {
                Duration timeToLive = Arguments.time("lease grant", operands.get(1), SHORTEST);
                yield (client, out) -> {
                    out.line("OK lease=" + client.grantLease(timeToLive));
                    return Program.DONE;
                };
            }
            case "keep-alive" -> {
                long lease = leaseNumber();
                yield (client, out) -> {
                    out.lease(client.keepAlive(lease));
                    return Program.DONE;
                };
            }
            case "revoke" -> {
                long lease = leaseNumber();
                yield (client, out) -> {
                    out.written(client.revokeLease(lease));
                    return Program.DONE;
                };
            }
            case "time-left" -> {
                long lease = leaseNumber();
                yield (client, out) -> {
                    out.lease(client.lease(lease));
                    return Program.DONE;
                };
            }
            case "list" ->
                (client, out) -> {
                    for (LeaseStatus lease : client.leases()) {
                        out.lease(lease);
                    }
                    return Program.DONE;
                };
            default -> throw new UsageException("unknown lease command " + Text.show(what) + "; write lease " + form);
        };
    }

    private long leaseNumber() throws UsageException {
        return Arguments.number("lease " + operands.get(0), operands.get(1), 1, Long.MAX_VALUE);
    }

    // ---- Files ----

    private Command snapshot() throws UsageException {
        operands(0, 0, "with nothing behind it; backup writes to a FILE of yours");
        return (client, out) -> {
            out.snapshot(client.snapshot());
            return Program.DONE;
        };
    }

    private Command backup() throws UsageException {
        String file = operands(1, 1, "FILE|-").get(0);
        return (client, out) -> new Transfer(client, file, progress).backup(out);
    }

    private Command export() throws UsageException {
        String file = operands(1, 1, "[--prefix P] [--rev R] FILE|-").get(0);
        ScanOptions newest = ScanOptions.of(range());
        long revision = revision();
        ScanOptions scan = revision < 0 ? newest : newest.at(revision);
        return (client, out) -> new Transfer(client, file, progress).export(scan, out);
    }

    private Command importPairs() throws UsageException {
        String file = operands(1, 1, "[--skip-lines N] FILE|-").get(0);
        long skipped = arguments.number("--skip-lines", 0, 0, Long.MAX_VALUE);
        List<String> again = new ArrayList<>(List.of("hkvctl", "import"));
        for (String flag : List.of("--host", "--port", "--timeout")) {
            arguments.value(flag).ifPresent(value -> again.addAll(List.of(flag, value)));
        }
        return (client, out) -> new Transfer(client, file, progress).importPairs(in, skipped, again);
    }

    private List<String> operands(int min, int max, String form) throws UsageException {
        if (operands.size() < min || operands.size() > max) {
            throw new UsageException("write " + name + " " + form);
        }
        return operands;
    }
}
