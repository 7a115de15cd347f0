package homekv.cli;

import com.sun.management.HotSpotDiagnosticMXBean;
import com.sun.management.OperatingSystemMXBean;
import homekv.rpc.Addresses;
import homekv.rpc.HomeKvServer;
import homekv.storage.CommandLog;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.WriteAheadLog;
import java.io.Closeable;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.net.BindException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.logging.Level;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The server program: serves a store, in memory or kept in a directory, until it is told to stop. */
public final class Homekv {
    private static final String HELP = """
            homekv: an in-memory, ordered, multi-version key-value server

              homekv [-h [HOST]] [-p PORT] [--memory SIZE] [--data-dir DIR] [limits]
              homekv --check DIR

              -h, --host [HOST]   the address to listen at; 127.0.0.1 without HOST or without the flag
              -p, --port PORT     the port; 20001 by default, 0 picks a free one
              --memory SIZE       the Java heap: 512m, 2g; from 64m, by default 60% of the machine's memory
              --help, --version

            Without --data-dir nothing is kept, and is gone when the server stops. With it:
              --data-dir DIR            where data is kept; a new directory, or one of a server that has stopped
              --sync always             a write is answered once it is forced to the disk: nothing is lost; the default
              --sync interval=100ms     it is forced so long after it has been answered: a loss of power can take that
              --sync never              when the system likes: only a crash of the server alone takes nothing
              --snapshot-log-bytes N    a snapshot file is written after so much log; 268435456. With it, a start reads
                                        less log, and older log is deleted
              --snapshot-interval TIME  and after so long, if there was any; 60m, 0 for never
              --min-free-bytes N        with less room on the disk writes are refused until there is; 268435456
              --restore FILE|-          begins DIR, which is new or empty, with a backup of hkvctl backup
              --recover-to-last-good    where DIR is damaged: starts with what stands in front of the damage, and puts
                                        the files behind it aside. All writes since are given up
              --check DIR               reads everything in a directory, changes nothing, prints what is there and what
                                        is damaged, and ends: exit code 0 for a whole one, else 1

            Limits, each refused with a message that names it:
              --max-key-bytes N         the longest key; 65536
              --max-value-bytes N       the longest value; 16777216
              --max-request-keys N      keys in one request; 100000
              --max-request-bytes N     the largest request; 67108864
              --max-response-bytes N    the largest response; 67108864
              --max-in-flight-bytes N   requests and responses of all calls under way; an eighth of the heap
              --max-memory-bytes N      what the store may hold of the heap; about three fifths of it

            How far back the past can be read, compared and watched; where memory is short, less. Without any, a
            watch that is a moment behind has to begin again:
              --history-bytes N         what it may take of what the store may hold; a quarter of it
              --history-duration TIME   how old it may be: 500ms, 5s, 2m, 0 for none; 5m

            Prints one line when it is ready. Logs go to standard error. SIGTERM and Ctrl-C then finish the calls under
            way and end it with exit code 0, or 1 if writes could no longer be kept; before, they end it at once,
            and nothing is lost. Other exit codes: 1 it cannot serve, or not without losing data, 2 the command line
            is wrong.
            """;

    private static final Map<String, String> SHORT_FLAGS = Map.of("-h", "--host", "-p", "--port");

    private static final Pattern SIZE = Pattern.compile("([0-9]{1,14})([kmgt]?)");
    private static final long MIN_HEAP_BYTES = 64 << 20;

    /** How long calls under way may take to finish when the server stops. */
    private static final Duration STOP_PATIENCE = Duration.ofSeconds(10);

    /** Room for the buffers of idle connections, beside what calls under way may take. */
    private static final long BUFFER_BYTES = 128 << 20;

    /** The others have names of their own below, or are wide enough for everybody. */
    private static final Set<Limit> SET_BY_FLAGS = EnumSet.range(Limit.KEY_BYTES, Limit.MEMORY_BYTES);

    private static final String CHECK = "--check";

    private static final String HISTORY_BYTES = HomeKvServer.flag(Limit.HISTORY_BYTES);
    private static final String HISTORY_DURATION = HomeKvServer.flag(Limit.HISTORY_MILLIS);

    private final PrintStream err;

    private Homekv(PrintStream err) {
        this.err = err;
    }

    /** Runs the server until it is told to stop, or ends the JVM with an exit code that says why it cannot. */
    public static void main(String[] args) throws InterruptedException {
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        PrintStream err = new PrintStream(new FileOutputStream(FileDescriptor.err), true, StandardCharsets.UTF_8);
        Homekv homekv = new Homekv(err);
        Program.logOnly(Level.SEVERE); // Of gRPC and Netty, what an operator can act on.
        Thread.setDefaultUncaughtExceptionHandler(
                (thread, failure) -> err.println("homekv: thread " + thread.getName() + " failed: " + failure));
        try {
            Arguments arguments = Arguments.parse(Arguments.typed(args), flags(), SHORT_FLAGS);
            if (arguments.has("--help")) {
                out.print(HELP);
            } else if (arguments.has("--version")) {
                out.println("homekv " + Program.version());
            } else if (arguments.has(CHECK)) {
                homekv.check(arguments, out);
            } else {
                homekv.serve(arguments, out);
            }
        } catch (UsageException e) {
            homekv.fail(Program.USAGE, e.getMessage());
        } catch (IOException e) {
            homekv.fail(Program.REFUSED, Text.oneLine(e.getMessage()));
        }
    }

    private void fail(int exitCode, String message) {
        say(message);
        System.exit(exitCode);
    }

    private void say(String line) {
        err.println("homekv: " + line);
    }

    private static Map<String, Arguments.Takes> flags() {
        Map<String, Arguments.Takes> flags = new HashMap<>();
        flags.put("--host", Arguments.Takes.VALUE_OR_NOTHING);
        flags.put("--port", Arguments.Takes.VALUE);
        flags.put("--memory", Arguments.Takes.VALUE);
        flags.putAll(DataOptions.FLAGS);
        flags.put(CHECK, Arguments.Takes.VALUE);
        flags.put("--help", Arguments.Takes.NOTHING);
        flags.put("--version", Arguments.Takes.NOTHING);
        for (Limit limit : SET_BY_FLAGS) {
            flags.put(HomeKvServer.flag(limit), Arguments.Takes.VALUE);
        }
        flags.put(HISTORY_BYTES, Arguments.Takes.VALUE);
        flags.put(HISTORY_DURATION, Arguments.Takes.VALUE);
        return flags;
    }

    /** Ends the JVM with 1 if the directory is damaged. */
    private void check(Arguments arguments, PrintStream out) throws UsageException, IOException {
        requireNoOperands(arguments);
        for (String flag : arguments.flags()) {
            if (!flag.equals(CHECK) && !flag.equals("--memory")) {
                throw new UsageException("--check only looks at a directory, and takes no " + flag);
            }
        }
        Path directory = DataOptions.path(CHECK, arguments.value(CHECK).orElseThrow());
        if (!WriteAheadLog.check(directory, out::println)) {
            System.exit(Program.REFUSED);
        }
    }

    private static void requireNoOperands(Arguments arguments) throws UsageException {
        if (!arguments.operands().isEmpty()) {
            throw new UsageException("unknown argument "
                    + Text.show(arguments.operands().get(0)) + "; homekv takes flags only, see --help");
        }
    }

    private void serve(Arguments arguments, PrintStream out) throws UsageException, IOException, InterruptedException {
        requireNoOperands(arguments);
        checkMemory(arguments);
        int port = (int) arguments.number("--port", Program.DEFAULT_PORT, 0, Program.MAX_PORT);
        Limits limits = limits(arguments);
        DataOptions data = DataOptions.read(arguments);
        InetAddress host = host(arguments.value("--host").orElse(Program.DEFAULT_HOST));
        // Netty reads this once. Its buffers lie outside of the heap and hold what calls under way receive and send.
        System.setProperty("io.netty.maxDirectMemory", Long.toString(3 * limits.inFlightBytes() + BUFFER_BYTES));
        InetSocketAddress address = new InetSocketAddress(host, port);
        if (data == null) {
            try (MvccStore store = new MvccStore(limits)) {
                serve(address, store, new MemoryCommandLog(store), store::close, out);
            }
            return;
        }
        requireFree(address);
        if (data.restored() != null) {
            restore(data);
        }
        try (WriteAheadLog log = WriteAheadLog.open(data.directory(), limits, data.log(), this::say)) {
            serve(address, log.store(), log, log::close, out);
        }
    }

    /** Refuses a port that is taken before anything is begun that takes long or cannot be done twice. */
    private static void requireFree(InetSocketAddress address) throws IOException {
        try (ServerSocket probe = new ServerSocket()) {
            probe.bind(address);
        } catch (IOException e) {
            throw cannotListen(address, e.getMessage(), e);
        }
    }

    private void restore(DataOptions data) throws IOException {
        String file = data.restored();
        if (file.equals("-")) {
            WriteAheadLog.restore(data.directory(), System.in, this::say);
            return;
        }
        try (InputStream backup = open(file)) {
            WriteAheadLog.restore(data.directory(), backup, this::say);
        }
    }

    private static InputStream open(String file) throws IOException {
        try {
            Path path = Path.of(Text.utf8(file));
            if (Files.isDirectory(path)) {
                throw new FileSystemException(file, null, "it is a directory"); // Only reading it would tell.
            }
            return Files.newInputStream(path);
        } catch (FileSystemException | InvalidPathException e) {
            throw new IOException("cannot restore from " + Text.show(file) + ": " + NewFile.why(e), e);
        }
    }

    /** Serves until it is told to stop; then closes what belongs to the log, and ends the JVM. */
    private void serve(InetSocketAddress address, MvccStore store, CommandLog log, Closeable kept, PrintStream out)
            throws IOException, InterruptedException {
        try (HomeKvServer server = start(address, store, log)) {
            Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(server, log, kept), "homekv-stop"));
            if (!address.getAddress().isLoopbackAddress()) {
                say("warning: " + host(address)
                        + " can be reached from other machines, and nothing is encrypted or authenticated");
            }
            out.println("homekv " + Program.version() + " listening on "
                    + Addresses.hostAndPort(host(address), server.address().getPort()));
            server.awaitStop();
            Thread.currentThread().join(); // Until homekv-stop ends the JVM: nothing is closed before it is done.
        }
    }

    private static HomeKvServer start(InetSocketAddress address, MvccStore store, CommandLog log) throws IOException {
        try {
            return new HomeKvServer(address, store, log);
        } catch (IOException e) {
            throw cannotListen(
                    address, e.getCause() instanceof BindException bind ? bind.getMessage() : e.getMessage(), e);
        }
    }

    private static IOException cannotListen(InetSocketAddress address, String why, IOException e) {
        String where = Addresses.hostAndPort(address);
        String brief = why.replaceFirst(" \\(Bind failed\\)$", "");
        return new IOException(
                switch (brief) {
                    case "Address already in use" ->
                        where + " is taken; stop what listens there, or choose another port with -p";
                    case "Permission denied" ->
                        "no permission to listen at " + where + "; choose a port from 1024 on with -p";
                    case "Cannot assign requested address", "Can't assign requested address" ->
                        host(address) + " is no address of this machine; choose one that is with -h";
                    default -> "cannot listen at " + where + ": " + why;
                },
                e);
    }

    /**
     * Ends the JVM with 0 where it would end with 143 or 130 by itself: being told to stop is no failure. Not to have
     * kept what was written is one.
     */
    private void stop(HomeKvServer server, CommandLog log, Closeable kept) {
        try {
            if (!server.stop(STOP_PATIENCE)) {
                say("stopped before all calls had finished");
            }
        } catch (InterruptedException e) {
            say("interrupted while stopping");
        }
        String failure = log.failure();
        try {
            kept.close();
        } catch (IOException e) {
            failure = failure == null ? e.getMessage() : failure;
        }
        if (failure != null) {
            say("stopped with exit code 1, since writes could no longer be kept: " + Text.oneLine(failure));
        }
        Runtime.getRuntime().halt(failure == null ? Program.DONE : Program.REFUSED);
    }

    private static String host(InetSocketAddress address) {
        return address.getAddress().getHostAddress();
    }

    private static InetAddress host(String name) throws IOException {
        try {
            return InetAddress.getByName(name);
        } catch (UnknownHostException e) {
            throw new IOException("cannot find the host " + Text.show(name) + "; give an address of this machine", e);
        }
    }

    /** The launcher has given the JVM its heap; here the size is judged, and what the launcher left alone refused. */
    private static void checkMemory(Arguments arguments) throws UsageException {
        String size = arguments.value("--memory").orElse(null);
        if (size == null) {
            return;
        }
        Matcher parts = SIZE.matcher(size.toLowerCase(Locale.ROOT));
        if (!parts.matches()) {
            throw new UsageException("--memory takes a size such as 512m or 2g, not " + Text.show(size));
        }
        int shift = switch (parts.group(2)) {
            case "k" -> 10;
            case "m" -> 20;
            case "g" -> 30;
            case "t" -> 40;
            default -> 0;
        };
        long number = Long.parseLong(parts.group(1));
        long machineBytes = totalMemoryBytes();
        if (number > machineBytes >> shift) {
            throw new UsageException(
                    "--memory " + size + " is more than the " + (machineBytes >> 20) + "m that this machine has");
        }
        if (number << shift < MIN_HEAP_BYTES) {
            throw new UsageException("--memory " + size + " is too little; 64m is the least");
        }
        if (Runtime.getRuntime().maxMemory() > (number << shift) + (number << shift) / 8) {
            throw new UsageException("--memory has no effect here; start the server with bin/homekv");
        }
    }

    private static long totalMemoryBytes() {
        return ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class).getTotalMemorySize();
    }

    private static Limits limits(Arguments arguments) throws UsageException {
        Limits limits = Limits.defaults().withHeapRegionBytes(heapRegionBytes()).withCompactHeaders(compactHeaders());
        for (Limit limit : SET_BY_FLAGS) {
            long value = arguments.number(HomeKvServer.flag(limit), limits.get(limit), limit.min(), limit.max());
            limits = limits.with(limit, value);
        }
        // A quarter of what the store may hold, also where that was set.
        long historyBytes = arguments.number(
                HISTORY_BYTES, limits.memoryBytes() / 4, Limit.HISTORY_BYTES.min(), Limit.HISTORY_BYTES.max());
        String duration = arguments.value(HISTORY_DURATION).orElse("5m");
        return limits.with(Limit.HISTORY_BYTES, historyBytes)
                .with(
                        Limit.HISTORY_MILLIS,
                        Arguments.time(HISTORY_DURATION, duration, Duration.ZERO)
                                .toMillis());
    }

    /** What the G1 collector rounds large arrays up to; 0 for another collector. */
    private static int heapRegionBytes() {
        HotSpotDiagnosticMXBean jvm = ManagementFactory.getPlatformMXBean(HotSpotDiagnosticMXBean.class);
        boolean g1 = Boolean.parseBoolean(jvm.getVMOption("UseG1GC").getValue());
        return g1 ? Integer.parseInt(jvm.getVMOption("G1HeapRegionSize").getValue()) : 0;
    }

    private static boolean compactHeaders() {
        HotSpotDiagnosticMXBean jvm = ManagementFactory.getPlatformMXBean(HotSpotDiagnosticMXBean.class);
        try {
            return Boolean.parseBoolean(
                    jvm.getVMOption("UseCompactObjectHeaders").getValue());
        } catch (IllegalArgumentException e) {
            return false; // This JVM is older than they are.
        }
    }
}
