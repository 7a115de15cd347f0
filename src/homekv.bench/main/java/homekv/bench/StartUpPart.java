package homekv.bench;

import homekv.bench.Report.Value;
import homekv.rpc.HomeKvClient;
import homekv.storage.Bytes;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;

/**
 * How long the programs take from the start of their launcher, what of memory they then have, and how large the image is.
 * A client that is warm calls the server as soon as its ready line is there.
 */
final class StartUpPart implements Part {
    private static final int LAUNCHES = 20;
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    /** What each launch has taken. */
    private static final class Samples {
        private final List<Double> readyMillis = new ArrayList<>();
        private final List<Double> firstCallMillis = new ArrayList<>();
        private final List<Double> serverMegabytes = new ArrayList<>();
        private final List<Double> getMillis = new ArrayList<>();
        private final List<Double> clientMegabytes = new ArrayList<>();
    }

    @Override
    public void measure(Report report, Setting setting) throws Exception {
        report.part("startup", "Start-up and size");
        Samples samples = new Samples();
        int launches = setting.quick() ? 2 : LAUNCHES;
        launch(setting.image(), new Samples()); // Brings the image into the page cache, and this JVM's client to speed.
        for (int i = 0; i < launches; i++) {
            launch(setting.image(), samples);
        }
        report.text("From the start of the launcher, " + launches + " launches each; resident memory at its highest.");
        Report.Table times = report.table("launch", List.of("program"), List.of("ms", "resident MB"));
        times.row(List.of("homekv, ready"), median(samples.readyMillis, "ms"));
        times.row(
                List.of("homekv, first call answered"),
                median(samples.firstCallMillis, "ms"),
                median(samples.serverMegabytes, "MB"));
        times.row(List.of("hkvctl get, ended"), median(samples.getMillis, "ms"), median(samples.clientMegabytes, "MB"));

        Report.Table sizes = report.table("size", List.of("what"), List.of("MB"));
        sizes.row(List.of("image without caches"), megabytes(setting.image(), path -> !isCache(path)));
        sizes.row(List.of("caches"), megabytes(setting.image(), StartUpPart::isCache));
        sizes.row(
                List.of(".tar.gz of both"),
                megabytes(setting.image().resolveSibling(setting.image().getFileName() + ".tar.gz"), path -> true));
    }

    private static boolean isCache(Path path) {
        return path.toString().endsWith(".aot");
    }

    private static void launch(Path image, Samples samples) throws IOException, InterruptedException {
        long began = System.nanoTime();
        Process server = start(image.resolve("bin/homekv"), "-p", "0");
        try {
            String ready = server.inputReader().readLine();
            if (ready == null) {
                throw new IOException("homekv did not start; see above");
            }
            samples.readyMillis.add(millisSince(began));
            int port = Integer.parseInt(ready.substring(ready.lastIndexOf(':') + 1));
            try (HomeKvClient client = new HomeKvClient("127.0.0.1", port, PATIENCE)) {
                client.get(List.of(Bytes.utf8("a")));
                samples.firstCallMillis.add(millisSince(began));
            }
            samples.serverMegabytes.add(highestResidentMegabytes(server));

            began = System.nanoTime();
            Process get = start(image.resolve("bin/hkvctl"), "get", "a", "-p", Integer.toString(port));
            double megabytes = 0;
            while (get.isAlive()) {
                megabytes = Math.max(megabytes, highestResidentMegabytes(get));
                Thread.sleep(1);
            }
            samples.getMillis.add(millisSince(began));
            samples.clientMegabytes.add(megabytes);
            if (get.exitValue() != 0) {
                throw new IOException("hkvctl ended with " + get.exitValue() + "; see above");
            }
        } finally {
            server.destroy();
            server.waitFor();
        }
    }

    private static Process start(Path program, String... arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of(program.toString()));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        return process;
    }

    private static double millisSince(long nanos) {
        return (System.nanoTime() - nanos) / 1e6;
    }

    /** What Linux says of a process; 0 where there is none to ask, or the process has ended. */
    private static double highestResidentMegabytes(Process process) {
        try {
            for (String line : Files.readAllLines(Path.of("/proc", Long.toString(process.pid()), "status"))) {
                if (line.startsWith("VmHWM:")) {
                    return Long.parseLong(line.replaceAll("[^0-9]", "")) * 1024 / 1e6;
                }
            }
        } catch (IOException e) {
            // It has ended. Which exception tells that depends on when.
        }
        return 0;
    }

    private static Value median(List<Double> samples, String unit) {
        return Value.median(samples.stream().mapToDouble(Double::doubleValue).toArray(), unit);
    }

    private static Value megabytes(Path root, Predicate<Path> counted) throws IOException {
        long bytes = 0;
        try (var paths = Files.walk(root)) {
            for (Path path : paths.filter(counted).toList()) {
                bytes += Files.isRegularFile(path) ? Files.size(path) : 0;
            }
        }
        return Value.of(bytes / 1e6, "MB");
    }
}
