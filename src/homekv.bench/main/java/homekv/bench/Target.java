package homekv.bench;

import homekv.rpc.LoadGenerator;
import homekv.rpc.LoadGenerator.Outcome;
import homekv.rpc.LoadGenerator.Plan;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A server in a process of its own, and the loads on it. For one thread. */
final class Target implements AutoCloseable {
    /** How the address ends that a server prints. */
    private static final Pattern PORT = Pattern.compile(".*:(\\d+).*");

    private final String name;
    private final Process process;
    private final int port;
    private final Map<Integer, LoadGenerator> loads = new HashMap<>();

    private Target(String name, List<String> command) throws IOException {
        this.name = name;
        process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        String line = process.inputReader().readLine();
        Matcher port = PORT.matcher(String.valueOf(line));
        if (!port.matches()) {
            process.destroyForcibly();
            throw new IOException(name + " did not say where it serves, but " + line);
        }
        this.port = Integer.parseInt(port.group(1));
    }

    /** The server as it is shipped, in memory, with so many more arguments. */
    static Target homeKv(Setting setting, String... arguments) throws IOException {
        List<String> command =
                new ArrayList<>(List.of(setting.image().resolve("bin/homekv").toString(), "-p", "0"));
        command.addAll(List.of(arguments));
        return new Target("HomeKV", command);
    }

    /** The echo, in the same JVM with the same flags. */
    static Target echo(Setting setting) throws IOException {
        List<String> command = new ArrayList<>();
        command.add(setting.image().resolve("bin/java").toString());
        command.addAll(setting.serverFlags());
        // All but the echo itself is in the image.
        command.addAll(List.of("--add-exports", "homekv.rpc/homekv.rpc.proto=ALL-UNNAMED"));
        String eventLoops = Integer.toString(Runtime.getRuntime().availableProcessors()); // As HomeKvServer has.
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), EchoServer.class.getName(), eventLoops));
        return new Target("echo", command);
    }

    /** Bytes of main memory that it takes now, by what Linux tells; NaN on another system. */
    double residentBytes() throws IOException {
        Path status = Path.of("/proc/" + process.pid() + "/status");
        if (!Files.isReadable(status)) {
            return Double.NaN;
        }
        return Files.readAllLines(status).stream()
                .filter(line -> line.startsWith("VmRSS:"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")) << 10)
                .findFirst()
                .orElseThrow();
    }

    /** Bytes of live heap, after a full collection. */
    long liveBytes() throws IOException {
        Process jcmd = new ProcessBuilder(
                        System.getProperty("java.home") + "/bin/jcmd", "" + process.pid(), "GC.class_histogram")
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        try (BufferedReader lines = jcmd.inputReader()) {
            return lines.lines()
                    .filter(line -> line.startsWith("Total"))
                    .mapToLong(line -> Long.parseLong(line.strip().split(" +")[2]))
                    .findFirst()
                    .orElseThrow(() -> new IOException("no histogram of " + name));
        }
    }

    int port() {
        return port;
    }

    String name() {
        return name;
    }

    /** The load over so many connections. */
    LoadGenerator load(int connections) {
        return loads.computeIfAbsent(
                connections, count -> new LoadGenerator("127.0.0.1", port, Duration.ofSeconds(10), count));
    }

    /** Carries out a plan, to its end. */
    Outcome run(int connections, Plan plan) throws InterruptedException {
        Outcome outcome = load(connections).run(plan);
        if (outcome.failure() != null) {
            throw new IllegalStateException(name + " failed", outcome.failure());
        }
        return outcome;
    }

    @Override
    public void close() throws InterruptedException {
        loads.values().forEach(LoadGenerator::close);
        process.destroy();
        if (!process.waitFor(15, TimeUnit.SECONDS)) {
            process.destroyForcibly().waitFor();
        }
    }
}
