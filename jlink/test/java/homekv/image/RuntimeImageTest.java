package homekv.image;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertIterableEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is in the linked image, and that it runs wherever it is put. */
final class RuntimeImageTest {
    private static final Path TARGET = Path.of("target").toAbsolutePath();

    /** The image is of the JDK that runs this. Earlier ones make none. */
    private static final boolean HAS_CACHES = Runtime.version().feature() >= 25;

    @TempDir
    private Path folder;

    @Test
    void theImageHasTheseModulesAndNoOthers() throws IOException {
        Program java = Program.run(image().resolve("bin/java"), "--list-modules");
        List<String> names =
                java.out().lines().map(line -> line.replaceFirst("@.*", "")).toList();
        assertEquals(
                List.of(
                        "com.google.common",
                        "com.google.common.util.concurrent.internal",
                        "com.google.protobuf",
                        "homekv.cli",
                        "homekv.rpc",
                        "homekv.storage",
                        "io.grpc",
                        "io.grpc.internal",
                        "io.grpc.netty",
                        "io.grpc.protobuf",
                        "io.grpc.protobuf.lite",
                        "io.grpc.services",
                        "io.grpc.stub",
                        "io.grpc.util",
                        "io.netty.buffer",
                        "io.netty.codec",
                        "io.netty.codec.http",
                        "io.netty.codec.http2",
                        "io.netty.common",
                        "io.netty.handler",
                        "io.netty.resolver",
                        "io.netty.transport",
                        "io.netty.transport.unix.common",
                        "io.perfmark",
                        "java.base",
                        "java.logging",
                        "java.management",
                        "jdk.management",
                        "jdk.unsupported"),
                names);
        assertFalse(java.out().contains("automatic"), java::out);
    }

    @Test
    void everyModuleComesWithItsLicence() throws IOException {
        for (String module : Program.run(image().resolve("bin/java"), "--list-modules")
                .out()
                .lines()
                .map(line -> line.replaceFirst("@.*", ""))
                .filter(name -> !name.startsWith("homekv."))
                .toList()) {
            Path licence = image().resolve("legal").resolve(module).resolve("LICENSE");
            assertTrue(Files.size(licence) > 1000, () -> "no licence of " + module);
        }
    }

    @Test
    void theImageTakesAtMost55MegabytesBesideItsCaches() throws IOException {
        long bytes = 0;
        try (var files = Files.walk(image())) {
            for (Path file : files.toList()) {
                if (Files.isRegularFile(file) && !file.toString().endsWith(".aot")) bytes += Files.size(file);
            }
        }
        assertTrue(bytes <= 55_000_000, "the image takes " + bytes + " bytes");
    }

    @Test
    void eachProgramHasACacheThatItsJvmTakesAlsoWhereTheImageIsMoved() throws IOException {
        assumeTrue(HAS_CACHES);
        Path moved = Files.createDirectory(folder.resolve("another place"));
        Program copy = Program.run(
                Map.of("PATH", System.getenv("PATH")), List.of("cp", "-R", image().toString(), moved.toString()));
        assertEquals(0, copy.awaitExit(), copy::err);
        Path other = moved.resolve(image().getFileName());
        for (Path each : List.of(image(), other)) {
            assertTakesCache(each, "homekv", "homekv.cli/homekv.cli.Homekv", "--version");
            assertTakesCache(each, "homekv", "homekv.cli/homekv.cli.Homekv", "--version", "-Xmx64m");
            assertTakesCache(each, "hkvctl", "homekv.cli/homekv.cli.Hkvctl", "--version");
        }
    }

    /** The JVM says of classes where they come from, if asked to. */
    private void assertTakesCache(Path image, String name, String main, String argument, String... flags)
            throws IOException {
        var command = new ArrayList<>(List.of(
                image.resolve("bin/java").toString(),
                "@" + image.resolve("lib/" + name + ".jvmargs"),
                "-XX:AOTCache=" + image.resolve("lib/" + name + ".aot"),
                "-Xlog:class+load:stdout"));
        command.addAll(List.of(flags));
        command.addAll(List.of("-m", main, argument));
        Program java = Program.run(Map.of(), command);
        String className = main.replaceFirst(".*/", "");
        assertTrue(
                java.out().lines().anyMatch(line -> line.matches(".* " + className + " source: shared objects file.*")),
                java::out);
    }

    @Test
    void nothingChangesButTheTimeWhereACacheCannotBeUsed() throws IOException {
        assumeTrue(HAS_CACHES);
        Path copy = unpack(folder);
        Path bin = copy.resolve("bin");
        for (String program : List.of("homekv", "hkvctl")) {
            Path cache = copy.resolve("lib/" + program + ".aot");
            byte[] whole = Files.readAllBytes(cache);
            byte[] noise = new byte[whole.length];
            new Random(1).nextBytes(noise);
            for (byte[] damaged : List.of(new byte[0], Arrays.copyOf(whole, whole.length / 2), noise)) {
                Files.write(cache, damaged);
                assertSaysItsVersion(bin.resolve(program));
            }
            Files.delete(cache);
        }
        serveAndCall(Map.of(), bin.resolve("homekv"), bin.resolve("hkvctl"));
    }

    @Test
    void nothingChangesButTheTimeWhereTheCacheIsOfOtherFlags() throws IOException {
        assumeTrue(HAS_CACHES);
        for (String flag : List.of("-XX:-UseCompressedOops", "-Xmx40g", "-XX:-UseCompactObjectHeaders")) {
            Program java = Program.run(
                    Map.of(),
                    List.of(
                            image().resolve("bin/java").toString(),
                            "@" + image().resolve("lib/homekv.jvmargs"),
                            "-XX:AOTCache=" + image().resolve("lib/homekv.aot"),
                            flag,
                            "-m",
                            "homekv.cli/homekv.cli.Homekv",
                            "--version"));
            assertEquals(0, java.awaitExit(), flag);
            assertEquals("", java.err(), flag);
            assertEquals(1, java.out().lines().count(), java::out);
        }
    }

    private static void assertSaysItsVersion(Path program) {
        Program version = Program.run(program, "--version");
        assertEquals(0, version.awaitExit());
        assertEquals("", version.err());
        assertTrue(version.out().matches(program.getFileName() + " [0-9.]+\n"), version::out);
    }

    @Test
    void theArchiveUnpacksToTheImage() throws IOException {
        unpack(folder);
        assertIterableEquals(tree(image()), tree(folder.resolve(image().getFileName())));
    }

    @Test
    void runsFromAPathWithSpacesThroughLinksWithAnEmptyEnvironment() throws IOException {
        Path moved = Files.createDirectory(folder.resolve("a path with spaces"));
        Path bin = unpack(moved).resolve("bin");
        Path links = Files.createDirectory(folder.resolve("links to it"));
        Path near = Files.createSymbolicLink(links.resolve("near"), links.relativize(bin.resolve("homekv")));
        Path server = Files.createSymbolicLink(links.resolve("server"), near.getFileName());
        Path client = Files.createSymbolicLink(links.resolve("client"), bin.resolve("hkvctl"));

        serveAndCall(Map.of(), server, client);
    }

    @Test
    void takesNoOptionsOfOtherJavaPrograms() throws IOException {
        Path bin = image().resolve("bin");
        var options = Map.of(
                "JDK_JAVA_OPTIONS", "-showversion",
                "JAVA_TOOL_OPTIONS", "-showversion",
                "_JAVA_OPTIONS", "-showversion");
        serveAndCall(options, bin.resolve("homekv"), bin.resolve("hkvctl"));
    }

    /** Neither program writes what it should not, and the server ends with 0 when it is told to. */
    private static void serveAndCall(Map<String, String> environment, Path server, Path client) {
        try (Program serving = Program.start(environment, Program.command(server, "-h", "-p", "0"))) {
            String port = serving.awaitPort();
            Program call = Program.run(environment, Program.command(client, "metrics", "-h", "-p", port));
            assertEquals("", call.err());
            assertEquals(0, call.awaitExit());
            assertFalse(call.out().isEmpty());

            assertEquals(0, serving.terminate());
            assertEquals("", serving.err());
            assertEquals(1, serving.out().lines().count(), serving::out);
        }
    }

    private static Path image() throws IOException {
        return TARGET.resolve(Files.readAllLines(TARGET.resolve("built")).getFirst());
    }

    private static Path unpack(Path into) throws IOException {
        Path image = into.resolve(image().getFileName());
        Program tar = Program.run(
                Map.of("PATH", System.getenv("PATH")),
                List.of("tar", "-xzf", image() + ".tar.gz", "-C", into.toString()));
        assertEquals(0, tar.awaitExit(), tar::err);
        return image;
    }

    /** A line for every path in {@code root}, with its mode, and what it links to or how long it is. */
    private static List<String> tree(Path root) throws IOException {
        var lines = new ArrayList<String>();
        try (var paths = Files.walk(root)) {
            for (Path path : paths.sorted().toList()) {
                String what = Files.isSymbolicLink(path)
                        ? "-> " + Files.readSymbolicLink(path)
                        : PosixFilePermissions.toString(Files.getPosixFilePermissions(path))
                                + (Files.isDirectory(path) ? "" : " " + Files.size(path));
                lines.add(root.relativize(path) + " " + what);
            }
        }
        return lines;
    }
}
