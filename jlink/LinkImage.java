import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.module.ModuleFinder;
import java.lang.module.ModuleReference;
import java.nio.channels.spi.SelectorProvider;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.spi.ToolProvider;
import java.util.stream.Stream;
import java.util.zip.ZipFile;

/**
 * Links HomeKV's runtime image.
 *
 * <p>Run from source by the JDK that the image is to be made of, since the image is a trimmed copy of it:
 * {@code java LinkImage.java <jlink folder> <image name> <when the build began> <class path>}. Leaves in {@code target}:
 *
 * <ul>
 *   <li>the image, a folder of that name
 *   <li>{@code built}: the image's name and a digest of what it was made from. It is written last and taken away
 *       first, so an image that it names is whole. Its time is when the build began: no newer source is in the image.
 * </ul>
 */
// jlink takes only modules with a descriptor. gRPC, protobuf and perfmark have none, so each gets the one in
// modules/<its automatic name>/: compiled against its jar and put into a copy of it. What our modules do not require,
// even by way of these, stays out of the image: annotations, proxies, JNDI.
final class LinkImage {
    /** The programs, and what the JVM offers to whoever looks into a running one. */
    private static final String ROOT_MODULES = "homekv.cli,jdk.management";

    /** JDK 24 has such caches, too, but takes two runs to make one. */
    private static final boolean CAN_CACHE = Runtime.version().feature() >= 25;

    private static final List<String> PROGRAMS = List.of("homekv", "hkvctl");

    /** All of a training run's start, calls and end; it takes some seconds. */
    private static final long TRAINING_SECONDS = 60;

    /** What the client is trained on, and the server by it, before a get from the program's start to its end. */
    private static final List<String> CALLS = List.of(
            "set a=1 b=2",
            "get a b c",
            "scan",
            "scan --prefix a --limit 1 --reverse",
            "cas a --expect 1 --set 2",
            "incr n 5",
            "getset b 3",
            "getdel b",
            "lease grant 60s",
            "history a",
            "diff --rev 1..2",
            "export -",
            "metrics",
            "del b n",
            "set a=1");

    private final Path source;
    private final Path target;
    private final Path scratch;
    private final List<Path> jars;
    private final String name;
    private final Path image;

    private LinkImage(Path source, String name, List<Path> jars) {
        this.source = source;
        this.target = source.resolve("target");
        this.scratch = target.resolve("linking");
        this.jars = jars;
        this.name = name;
        this.image = scratch.resolve(name);
    }

    public static void main(String[] arguments) throws IOException {
        // A build that is interrupted ends Maven, which leaves what it has started alone.
        ProcessHandle.current().parent().ifPresent(maven -> maven.onExit().thenRun(() -> System.exit(1)));
        var jars = Stream.of(arguments[3].split(System.getProperty("path.separator")))
                .map(Path::of)
                .filter(Files::isRegularFile) // Maven adds the classes folder of jlink/, which has none.
                .toList();
        var link = new LinkImage(Path.of(arguments[0]), arguments[1], jars);
        link.run(FileTime.from(Instant.parse(arguments[2])));
    }

    private void run(FileTime began) throws IOException {
        Path built = target.resolve("built");
        String content = name + "\n" + digestOfInputs() + "\n";
        boolean upToDate =
                Files.exists(built) && Files.readString(built).equals(content) && Files.exists(target.resolve(name));
        if (!upToDate) {
            delete(scratch);
            Files.createDirectories(scratch);
            link(describedModules());
            dropUnused();
            addLaunchers();
            addLegal();
            makeCaches();
            setModes();

            Files.deleteIfExists(built);
            try (var old = Files.newDirectoryStream(target, "homekv-*")) {
                for (Path path : old) delete(path);
            }
            Files.move(image, target.resolve(name));
            Path finished = Files.writeString(scratch.resolve("built"), content);
            Files.setLastModifiedTime(finished, began);
            Files.move(finished, built, StandardCopyOption.ATOMIC_MOVE);
            delete(scratch);
        }
        Files.setLastModifiedTime(built, began);
        System.out.println((upToDate ? "Up to date: " : "Linked ") + target.resolve(name));
    }

    private String digestOfInputs() throws IOException {
        var inputs = new ArrayList<>(jars);
        for (String each : List.of("LinkImage.java", "modules", "legal", "../bin")) {
            try (var files = Files.walk(source.resolve(each))) {
                files.filter(Files::isRegularFile).sorted().forEach(inputs::add);
            }
        }
        try {
            var digest = MessageDigest.getInstance("SHA-256");
            digest.update((System.getProperty("java.home") + "\0" + Runtime.version() + "\0").getBytes(UTF_8));
            for (Path input : inputs) {
                byte[] bytes = Files.readAllBytes(input);
                digest.update((input.getFileName() + "\0" + bytes.length + "\0").getBytes(UTF_8));
                digest.update(bytes);
            }
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException impossible) {
            throw new AssertionError(impossible);
        }
    }

    /** All jars, as modules with a descriptor; those that have neither their own nor one of ours are left out. */
    private List<Path> describedModules() throws IOException {
        Map<String, Path> bare = new TreeMap<>();
        var described = new ArrayList<Path>();
        for (ModuleReference module : ModuleFinder.of(jars.toArray(Path[]::new)).findAll()) {
            Path jar = Path.of(module.location().orElseThrow());
            String moduleName = module.descriptor().name();
            if (!module.descriptor().isAutomatic()) {
                described.add(jar);
            } else if (Files.exists(source.resolve("modules").resolve(moduleName))) {
                bare.put(moduleName, jar);
            }
        }

        Path descriptors = scratch.resolve("descriptors");
        var javac = new ArrayList<>(List.of("-d", descriptors.toString(), "--module-path", path(described)));
        javac.addAll(List.of("--module-source-path", source.resolve("modules").toString()));
        bare.forEach((moduleName, jar) -> javac.addAll(List.of("--patch-module", moduleName + "=" + jar)));
        javac.addAll(List.of("--module", String.join(",", bare.keySet())));
        tool("javac", javac);

        for (var module : bare.entrySet()) {
            Path jar = Files.copy(module.getValue(), scratch.resolve(module.getKey() + ".jar"));
            Path descriptor = descriptors.resolve(module.getKey());
            tool(
                    "jar",
                    List.of("--update", "--file", jar.toString(), "-C", descriptor.toString(), "module-info.class"));
            described.add(jar);
        }
        return described;
    }

    private void link(List<Path> modulePath) {
        tool(
                "jlink",
                List.of(
                        "--module-path",
                        path(modulePath),
                        "--add-modules",
                        ROOT_MODULES,
                        "--output",
                        image.toString(),
                        "--compress",
                        "zip-6",
                        "--strip-java-debug-attributes",
                        // Modules say in their descriptors what they provide. Whoever looks for a provider would look
                        // into these files, too, and then leave alone what it found.
                        "--exclude-resources",
                        "/*/META-INF/services/**",
                        "--no-header-files",
                        "--no-man-pages"));
    }

    private void dropUnused() throws IOException {
        try (var programs = Files.newDirectoryStream(image.resolve("bin"))) {
            for (Path program : programs) {
                if (!program.endsWith("java")) Files.delete(program);
            }
        }
    }

    /** Puts the launchers beside {@code bin/java}, with the flags of the JVMs that they start. */
    private void addLaunchers() throws IOException {
        int jdk = Runtime.version().feature();
        var both = new ArrayList<String>();
        // Nothing of the JVM's on standard output, and on standard error only what keeps it from working.
        both.add("-XX:+DisplayVMOutputToStderr");
        both.add("-Xlog:disable");
        // Without its cache, or with one that does not fit the flags, a JVM starts later and is none the worse for it.
        both.add("-Xlog:all=error" + (CAN_CACHE ? ",aot*=off,cds*=off" : "") + ":stderr");
        // Netty and protobuf use sun.misc.Unsafe.
        if (jdk >= 23) both.add("--sun-misc-unsafe-memory-access=allow");
        // The provider that it would come to itself after a search of all modules.
        both.add("-Djava.nio.channels.spi.SelectorProvider="
                + SelectorProvider.provider().getClass().getName());
        // The caches hold no profiles of methods (see below), and a thread that looks for them in vain would be in the
        // way of all others. A flag that later JDKs may not have.
        if (jdk == 25) both.addAll(List.of("-XX:+UnlockDiagnosticVMOptions", "-XX:-AOTReplayTraining"));

        var server = new ArrayList<>(both);
        // For virtual threads that an event loop carries; see homekv.rpc.CarriedThreads.
        server.add("--add-opens=java.base/java.lang=homekv.rpc");
        server.add("-XX:+UseG1GC");
        // --memory overrides this default share of the machine or container; see bin/homekv.
        server.add("-XX:MaxRAMPercentage=60");
        // The heap begins small, and has two to two and a half times what lives in it whenever marking has told what
        // that is. With less, marking would have to begin again at once, and take as much processor time as the calls.
        server.addAll(List.of("-Xms64m", "-XX:MinHeapFreeRatio=50", "-XX:MaxHeapFreeRatio=60"));
        // Else it grows by a fifth of all that it may take each time that collections take long, so that they are
        // rarer. Later JVMs do that in another way, without this flag.
        if (jdk <= 25) server.addAll(List.of("-XX:+UnlockExperimentalVMOptions", "-XX:G1ExpandByPercentOfAvailable=0"));
        // What a collection finds alive is the store's and stays. It is copied once, from a young space that is large
        // enough for the calls under way to have ended, and no larger, since it is not given back.
        server.addAll(List.of("-Xmn32m", "-XX:MaxTenuringThreshold=0"));
        // What so small a space leaves to look through, a collection looks through at once. Threads that do it ahead of
        // time would have next to nothing to do, and take processor time to find that out.
        server.add("-XX:G1ConcRefinementThreads=0");
        // A server that has had nothing to collect for so long, as long as its history window reaches back, looks what
        // it can give back to the system.
        server.add("-XX:G1PeriodicGCInterval=300000");
        // What was freed outside of the heap, by the compilers most of all, goes back, too. Earlier JVMs do not know
        // this flag, or do not start with it unless such flags are unlocked.
        if (jdk >= 23) server.add("-XX:TrimNativeHeapInterval=5000");
        if (jdk >= 25) server.add("-XX:+UseCompactObjectHeaders");
        // What costs every call something and nobody reads: where buffers came from, and a list of the calls' threads.
        server.add("-Dio.netty.leakDetection.level=disabled");
        server.add("-Djdk.trackAllThreads=false");
        Files.write(image.resolve("lib/homekv.jvmargs"), server);

        // One short call: what matters is how soon the JVM is up.
        var client = new ArrayList<>(both);
        client.addAll(List.of("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx1g"));
        // Most of what a call runs, it runs too seldom to be worth compiling.
        client.add("-XX:CompileThresholdScaling=4");
        // So is the code that reflection would generate for the few methods that gRPC and Netty call with it.
        client.add("-Djdk.reflect.useNativeAccessorOnly=true");
        Files.write(image.resolve("lib/hkvctl.jvmargs"), client);

        try (var launchers = Files.newDirectoryStream(source.resolveSibling("bin"))) {
            for (Path launcher : launchers) {
                Path copy = image.resolve("bin").resolve(launcher.getFileName());
                Files.copy(launcher, copy, LinkOption.NOFOLLOW_LINKS);
            }
        }
    }

    /**
     * Makes an AOT cache for each launcher from what its JVM has loaded and linked in a training run with the launcher's
     * own flags: lib/homekv.aot and lib/hkvctl.aot. They hold for the image wherever it is put. Where that
     * cannot be done, the image is one without: the launchers take the caches that are there.
     */
    private void makeCaches() throws IOException {
        if (!CAN_CACHE) return;
        // Processes that are under way when this one is told to end.
        var hook = new Thread(LinkImage::endProcesses);
        Runtime.getRuntime().addShutdownHook(hook);
        try {
            train(System.nanoTime() + TimeUnit.SECONDS.toNanos(TRAINING_SECONDS));
        } catch (IllegalStateException failed) {
            for (String name : PROGRAMS) Files.deleteIfExists(cache(name));
            System.out.println(
                    "The programs will take longer to start, since there are no AOT caches: " + failed.getMessage());
        } finally {
            endProcesses();
            Runtime.getRuntime().removeShutdownHook(hook);
            for (String name : PROGRAMS) Files.deleteIfExists(image.resolve("lib/" + name + ".aot.config"));
        }
    }

    private void train(long deadline) throws IOException {
        // With a directory, as most are started: what a server without one needs beside that is next to nothing.
        Path data = scratch.resolve("data");
        // A heap that any machine has, and whose addresses are compressed as those of every heap below 32 GiB.
        Process server = java("homekv", "-Xmx256m", "Homekv", "--data-dir", data.toString(), "-h", "-p", "0");
        String port = awaitPort(server, deadline);
        Process client = java("hkvctl", "-Xmx1g", "Rehearsal", "get", "a", "-p", port);
        try (var calls = new PrintStream(client.getOutputStream(), false, UTF_8)) {
            for (String call : CALLS) calls.println(call + " -p " + port);
        }
        // Each writes its cache as it ends.
        awaitEnd("hkvctl", client, deadline);
        server.destroy();
        awaitEnd("homekv", server, deadline);
    }

    /** Starts a program as its launcher does, but to leave a cache behind. */
    private Process java(String program, String heap, String mainClass, String... arguments) throws IOException {
        var command = new ArrayList<>(List.of(
                image.resolve("bin/java").toString(),
                "@" + image.resolve("lib/" + program + ".jvmargs"),
                heap,
                // Without what the JVM learns of methods meanwhile. It would take that for true later on and compile
                // them for the few calls that there are here: a busy server would be slower, and no start faster.
                "-XX:+IgnoreUnrecognizedVMOptions",
                "-XX:+UnlockDiagnosticVMOptions",
                "-XX:-AOTRecordTraining",
                "-XX:AOTCacheOutput=" + cache(program),
                "-m",
                "homekv.cli/homekv.cli." + mainClass));
        command.addAll(List.of(arguments));
        var builder = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(output(program).toFile());
        builder.environment().clear();
        return builder.start();
    }

    private Path cache(String program) {
        return image.resolve("lib/" + program + ".aot");
    }

    private Path output(String program) {
        return scratch.resolve(program + ".output");
    }

    /** What a program has said first, to stand behind what went wrong with it. */
    private String said(String program) throws IOException {
        return Files.readString(output(program))
                .lines()
                .findFirst()
                .map(line -> ": " + line)
                .orElse("");
    }

    private String awaitPort(Process server, long deadline) throws IOException {
        var ready = Pattern.compile("listening on .*:([0-9]+)\\R");
        while (server.isAlive() && System.nanoTime() < deadline) {
            var line = ready.matcher(Files.readString(output("homekv")));
            if (line.find()) return line.group(1);
            pause();
        }
        throw new IllegalStateException("homekv did not start" + said("homekv"));
    }

    private void awaitEnd(String program, Process process, long deadline) throws IOException {
        try {
            boolean ended = process.waitFor(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
            if (!ended || process.exitValue() != 0 || !Files.exists(cache(program))) {
                throw new IllegalStateException(program + " left none" + said(program));
            }
        } catch (InterruptedException impossible) {
            throw new AssertionError(impossible);
        }
    }

    private static void pause() {
        try {
            Thread.sleep(10);
        } catch (InterruptedException impossible) {
            throw new AssertionError(impossible);
        }
    }

    /** Ends what this process has started and what that has started. */
    private static void endProcesses() {
        ProcessHandle.current().descendants().forEach(ProcessHandle::destroyForcibly);
    }

    /**
     * Gives every module that is neither ours nor the JDK's, for which jlink cares, its licence and notice: what its
     * jar carries, and what is in the folder of {@code legal} that the module's name begins with. A folder without a
     * licence means the Apache licence.
     */
    private void addLegal() throws IOException {
        Set<String> linked = linkedModules();
        for (ModuleReference module : ModuleFinder.of(jars.toArray(Path[]::new)).findAll()) {
            String moduleName = module.descriptor().name();
            if (moduleName.startsWith("homekv.") || !linked.contains(moduleName)) continue;

            Path legal = Files.createDirectories(image.resolve("legal").resolve(moduleName));
            try (var jar = new ZipFile(Path.of(module.location().orElseThrow()).toFile())) {
                for (var entry : jar.stream().toList()) {
                    if (entry.getName().matches("META-INF/(LICENSE|NOTICE)[^/]*")) {
                        String file = entry.getName().substring("META-INF/".length());
                        Files.copy(jar.getInputStream(entry), legal.resolve(file));
                    }
                }
            }
            boolean known = Files.exists(legal.resolve("LICENSE"));
            try (var notices = Files.newDirectoryStream(source.resolve("legal"), Files::isDirectory)) {
                for (Path folder : notices) {
                    if (!(moduleName + ".").startsWith(folder.getFileName() + ".")) continue;
                    known = true;
                    try (var files = Files.newDirectoryStream(folder)) {
                        for (Path file : files) Files.copy(file, legal.resolve(file.getFileName()));
                    }
                }
            }
            if (!known) {
                throw new IllegalStateException("No licence of " + moduleName + " in its jar or in jlink/legal");
            }
            if (!Files.exists(legal.resolve("LICENSE"))) {
                Files.copy(source.resolve("legal/LICENSE-Apache-2.0"), legal.resolve("LICENSE"));
            }
        }
    }

    /** The names of the image's modules, from the {@code MODULES="a b c"} line that jlink writes. */
    private Set<String> linkedModules() throws IOException {
        for (String line : Files.readAllLines(image.resolve("release"))) {
            if (line.startsWith("MODULES=")) {
                return Set.of(line.replaceAll("MODULES=|\"", "").split(" "));
            }
        }
        throw new IllegalStateException("jlink has named no modules");
    }

    /** Makes the image the same whatever the umask, or the modes in the checkout and the JDK. */
    private void setModes() throws IOException {
        try (var paths = Files.walk(image)) {
            for (Path path : paths.toList()) {
                if (Files.isSymbolicLink(path)) continue;
                boolean runs = Files.isDirectory(path)
                        || Files.isExecutable(path)
                        || path.getParent().endsWith("bin");
                Files.setPosixFilePermissions(path, PosixFilePermissions.fromString(runs ? "rwxr-xr-x" : "rw-r--r--"));
            }
        }
    }

    private static String path(List<Path> elements) {
        return String.join(
                System.getProperty("path.separator"),
                elements.stream().map(Path::toString).toList());
    }

    /** Runs one of this JDK's tools; what it says is shown only where it fails. */
    private static void tool(String tool, List<String> arguments) {
        var output = new StringWriter();
        var writer = new PrintWriter(output);
        int code = ToolProvider.findFirst(tool).orElseThrow().run(writer, writer, arguments.toArray(String[]::new));
        if (code != 0) throw new IllegalStateException(tool + " failed:\n" + output);
    }

    private static void delete(Path path) throws IOException {
        if (!Files.exists(path, LinkOption.NOFOLLOW_LINKS)) return;
        try (var inside = Files.walk(path)) {
            for (Path each : inside.sorted(Comparator.reverseOrder()).toList()) Files.delete(each);
        }
    }
}
