package homekv.bench;

import java.io.IOException;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileStore;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.stream.Stream;

/** Runs the parts of the benchmarks one after the other, and writes what they report: as Markdown, and as JSON. */
public final class Benchmark {
    private static final Map<String, Part> PARTS = new LinkedHashMap<>();

    static {
        PARTS.put("store", new StorePart());
        PARTS.put("memory", new MemoryPart());
        PARTS.put("scale", new ScalePart());
        PARTS.put("wire", new WirePart());
        PARTS.put("gathering", new GatheringPart());
        PARTS.put("durability", new DurabilityPart());
        PARTS.put("startup", new StartUpPart());
    }

    private Benchmark() {}

    /**
     * Takes the options of {@code run}; see there. With {@code --launch} and a file, only writes there which JVM and class
     * path this is, a line each, so that {@code run} need not look for them.
     */
    public static void main(String[] args) throws Exception {
        Path checkout = null;
        Path json = null;
        Path directory = null;
        boolean quick = false;
        Map<String, Part> parts = new LinkedHashMap<>(PARTS);
        List<String> arguments = new ArrayList<>(List.of(args));
        try {
            while (!arguments.isEmpty()) {
                String argument = arguments.removeFirst();
                switch (argument) {
                    case "--launch" -> {
                        String java = System.getProperty("java.home") + "/bin/java";
                        Files.write(
                                Path.of(arguments.removeFirst()), List.of(java, System.getProperty("java.class.path")));
                        return;
                    }
                    case "--checkout" -> checkout = Path.of(arguments.removeFirst());
                    case "--json" -> {
                        json = Path.of(arguments.removeFirst()).toAbsolutePath();
                        if (!Files.isWritable(json.getParent())) {
                            throw new IllegalArgumentException("nothing can be written to " + json.getParent());
                        }
                    }
                    case "--quick" -> quick = true;
                    case "--only" -> {
                        List<String> only = List.of(arguments.removeFirst().split(","));
                        if (!PARTS.keySet().containsAll(only)) {
                            throw new IllegalArgumentException("the parts are " + String.join(", ", PARTS.keySet()));
                        }
                        parts.keySet().retainAll(only);
                    }
                    default -> {
                        if (argument.startsWith("-") || directory != null) {
                            throw new IllegalArgumentException("what is " + argument + "?");
                        }
                        directory = Path.of(argument);
                    }
                }
            }
        } catch (IllegalArgumentException | NoSuchElementException e) {
            System.err.println("bench: " + (e.getMessage() == null ? "an option lacks its value" : e.getMessage()));
            System.exit(2);
        }
        Path target = checkout.resolve("src/homekv.bench/target");
        boolean complete = run(
                parts,
                checkout,
                (directory == null ? target : directory).resolve("homekv-bench"),
                json == null ? target.resolve("benchmarks.json") : json,
                quick);
        System.exit(complete ? 0 : 1); // Whatever threads a part has left behind.
    }

    private static boolean run(Map<String, Part> parts, Path checkout, Path directory, Path json, boolean quick)
            throws IOException {
        Path images = checkout.resolve("jlink/target");
        Path image = images.resolve(Files.readAllLines(images.resolve("built")).get(0));
        List<String> flags = Files.readAllLines(image.resolve("lib/homekv.jvmargs")).stream()
                // What holds for the image alone.
                .filter(flag ->
                        !flag.contains("AOT") && !flag.contains("SharedArchive") && !flag.contains("--add-opens"))
                .toList();
        delete(directory);
        Files.createDirectories(directory);

        Map<String, Object> about = about(directory, flags, quick);
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        about.forEach((key, value) ->
                out.printf("- %s: %s%n", key, value instanceof List<?> list ? "`" + join(list) + "`" : value));

        Report report = new Report(out);
        boolean complete = true;
        for (var part : parts.entrySet()) {
            Path own = Files.createDirectories(directory.resolve(part.getKey()));
            long begin = System.nanoTime();
            try {
                part.getValue().measure(report, new Setting(own, image, flags, quick));
            } catch (Exception e) { // The other parts' numbers are good all the same.
                complete = false;
                System.err.println("bench: " + part.getKey() + " has failed");
                e.printStackTrace();
            }
            System.err.printf("bench: %s took %d s%n", part.getKey(), (System.nanoTime() - begin) / 1_000_000_000);
            Files.writeString(json, report.toJson(about));
        }
        delete(directory);
        return complete;
    }

    private static String join(List<?> list) {
        return String.join(" ", list.stream().map(Object::toString).toList());
    }

    private static Map<String, Object> about(Path directory, List<String> flags, boolean quick) throws IOException {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        FileStore disk = Files.getFileStore(directory);
        Map<String, Object> about = new LinkedHashMap<>();
        about.put("date", LocalDate.now().toString());
        about.put("system", system.getName() + " " + system.getArch());
        about.put("processors", system.getAvailableProcessors());
        processor().ifPresent(name -> about.put("processor", name));
        about.put("memory, MiB", system.getTotalMemorySize() >> 20);
        about.put("disk", disk.type() + " on " + disk.name());
        about.put("JDK", System.getProperty("java.vendor.version", "") + " " + Runtime.version());
        about.put("flags", flags);
        if (quick) {
            about.put("quick", "the numbers mean nothing");
        }
        return about;
    }

    private static Optional<String> processor() throws IOException {
        Path cpuinfo = Path.of("/proc/cpuinfo");
        if (!Files.isReadable(cpuinfo)) {
            return Optional.empty();
        }
        try (Stream<String> lines = Files.lines(cpuinfo)) {
            return lines.filter(line -> line.startsWith("model name"))
                    .map(line -> line.substring(line.indexOf(':') + 1).strip())
                    .findFirst();
        }
    }

    /** Deletes a directory and all that is in it, if it exists. */
    static void delete(Path directory) throws IOException {
        if (Files.exists(directory)) {
            try (Stream<Path> files = Files.walk(directory)) {
                for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                    Files.delete(file);
                }
            }
        }
    }
}
