package homekv.image;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** The launchers by themselves, with scripts in place of java and Maven that write down how they were called. */
final class LauncherTest {
    private static final Path LAUNCHERS = Path.of("../bin").toAbsolutePath().normalize();

    @TempDir
    private Path folder;

    /** A checkout with a space in its path. Its image, once built, only tells its arguments, a line each. */
    private Path checkout;

    /** Where the launcher finds mvn. */
    private Path tools;

    private Path jdk;
    private Path builds;

    @BeforeEach
    void layOut() throws IOException {
        checkout = folder.resolve("a checkout");
        for (String source : List.of("src/homekv.cli/main", "proto", "jlink/modules", "jlink/legal", "bin")) {
            Files.createDirectories(checkout.resolve(source));
        }
        for (String file : List.of("pom.xml", "src/homekv.cli/pom.xml", "jlink/pom.xml", "jlink/LinkImage.java")) {
            Files.writeString(checkout.resolve(file), "");
        }
        copyLaunchers(checkout.resolve("bin"));

        jdk = folder.resolve("jdk");
        script(jdk.resolve("bin/javac"), "");
        script(jdk.resolve("bin/jlink"), "");
        Files.writeString(jdk.resolve("release"), "IMPLEMENTOR=\"a\"\nJAVA_VERSION=\"21.0.2\"\n");

        tools = Files.createDirectory(folder.resolve("tools"));
        for (String tool : "cp find grep head ln mkdir mv readlink rm sed sh sleep".split(" ")) {
            script(tools.resolve(tool), "exec " + found(tool) + " \"$@\"");
        }
        builds = folder.resolve("builds");
        Path image = folder.resolve("image");
        Files.createDirectories(image.resolve("lib"));
        copyLaunchers(Files.createDirectories(image.resolve("bin")));
        Files.writeString(image.resolve("lib/homekv.jvmargs"), "");
        Files.writeString(image.resolve("lib/hkvctl.jvmargs"), "");
        script(image.resolve("bin/java"), "for argument; do printf '%s\\n' \"$argument\"; done");
        maven(
                "3.8.7",
                "echo \"$JAVA_HOME $*\" >>'" + builds + "'",
                "cd '" + checkout + "/jlink/target'",
                "rm -rf homekv-image; cp -R '" + image + "' homekv-image",
                "echo homekv-image >built");
    }

    @ParameterizedTest
    @MethodSource("shells")
    void passesEveryArgumentOnUnchanged(String shell) throws IOException {
        var odd = List.of(
                "set", "a b", "", "*", "$HOME", "`x`", "\\n", "'\"", "🦫", "a\nb", "@x", "-h", "--", "--memory=1g");
        Program program = inImage(shell, "homekv", odd);
        assertEquals("homekv.cli/homekv.cli.Homekv\n" + String.join("\n", odd) + "\n", afterFlags(program));
        program = inImage(shell, "hkvctl", odd);
        assertEquals("homekv.cli/homekv.cli.Hkvctl\n" + String.join("\n", odd) + "\n", afterFlags(program));
        assertEquals(0, program.awaitExit());
        assertEquals("", program.err());
    }

    @Test
    void theJvmGetsTheCacheOfItsProgramWhereThereIsOne() throws IOException {
        assertFalse(inImage("/bin/sh", "homekv", List.of()).out().contains("AOTCache"));
        Path cache = Files.writeString(folder.resolve("image/lib/homekv.aot"), "");
        assertTrue(inImage("/bin/sh", "homekv", List.of())
                .out()
                .contains("\n-XX:AOTCache=" + cache.getParent().resolveSibling("bin") + "/../lib/homekv.aot\n"));
        assertFalse(inImage("/bin/sh", "hkvctl", List.of()).out().contains("AOTCache"));
    }

    @Test
    void onlyWhatMeasuresIsCompiledAsWellAsCanBe() throws IOException {
        String flag = "\n-XX:TieredStopAtLevel=4\n";
        assertTrue(inImage("/bin/sh", "hkvctl", List.of("-p", "1", "bench", "get"))
                .out()
                .contains(flag));
        assertFalse(inImage("/bin/sh", "hkvctl", List.of("get", "a")).out().contains(flag));
        assertFalse(inImage("/bin/sh", "homekv", List.of("-p", "1")).out().contains(flag));
    }

    @ParameterizedTest
    @CsvSource({
        "512m, 536870912",
        "1G, 1073741824",
        "2g, 2147483648",
        "65536k, 67108864",
        "67108864, 67108864",
        "16t, 17592186044416",
        "16T, 17592186044416",
        "17592186044416, 17592186044416",
        "0000512m, 536870912",
        "63m, ''",
        "65535k, ''",
        "67108863, ''",
        "17t, ''",
        "17592186044417, ''",
        "99999999999999g, ''",
        "18446744073709551616, ''",
        "0, ''",
        "000, ''",
        "-1g, ''",
        "1.5g, ''",
        "1gb, ''",
        "m, ''",
        "'', ''",
        "1 g, ''",
    })
    void memoryBecomesTheLargestHeapWhereItIsASize(String size, String bytes) throws IOException {
        String flag = bytes.isEmpty() ? "" : "-Xmx" + bytes;
        for (String shell : shells().toList()) {
            for (List<String> arguments : List.of(
                    List.of("--memory", size),
                    List.of("--memory=" + size),
                    List.of("-h", "-p", "1", "--memory", "1t", "--memory", size, "--", "--memory", "1g"))) {
                List<String> lines =
                        inImage(shell, "homekv", arguments).out().lines().toList();
                assertEquals(flag, String.join(" ", lines.subList(1, lines.indexOf("-m"))), shell + " " + arguments);
            }
        }
    }

    @Test
    void theClientAndWhatStandsBehindADoubleDashSetNoHeap() throws IOException {
        assertTrue(!inImage("/bin/sh", "hkvctl", List.of("--memory=1g")).out().contains("-Xmx"));
        assertTrue(!inImage("/bin/sh", "homekv", List.of("--", "--memory=1g"))
                .out()
                .contains("-Xmx"));
        assertTrue(!inImage("/bin/sh", "homekv", List.of("--memory")).out().contains("-Xmx"));
    }

    @ParameterizedTest
    @MethodSource("shells")
    void aCheckoutIsBuiltOnceAndAgainWhenASourceIsNewer(String shell) throws IOException {
        String building = "homekv: building the runtime image, about a minute (the log is "
                + checkout.resolve("jlink/target/build.log") + ")\n";
        Program first = inCheckout(shell, "homekv", "-p", "1");
        assertEquals(building, first.err());
        assertEquals("homekv.cli/homekv.cli.Homekv\n-p\n1\n", afterFlags(first));
        assertEquals("", inCheckout(shell, "homekv").err());
        assertEquals("", inCheckout(shell, "hkvctl").err());

        for (String source : List.of("pom.xml", "src/homekv.cli/main", "bin/homekv", "jlink/modules")) {
            Instant build = Instant.now().plusSeconds(100);
            Files.setLastModifiedTime(checkout.resolve("jlink/target/built"), FileTime.from(build));
            assertEquals("", inCheckout(shell, "homekv").err());
            Files.setLastModifiedTime(checkout.resolve(source), FileTime.from(build.plusSeconds(1)));
            assertEquals(building, inCheckout(shell, "homekv").err(), source);
            Files.setLastModifiedTime(checkout.resolve(source), FileTime.from(Instant.EPOCH));
        }
        assertEquals(
                (jdk + " -q -B -f " + checkout + "/pom.xml package -Dmaven.test.skip=true\n").repeat(5),
                Files.readString(builds));
    }

    @Test
    void launchersStartedAtOnceBuildOnce() throws IOException {
        var programs = new ArrayList<Program>();
        for (int i = 0; i < 4; i++) {
            programs.add(Program.start(environment(), Program.command(checkout.resolve("bin/homekv"), "x")));
        }
        for (Program program : programs) {
            assertEquals(0, program.awaitExit(), program::err);
            assertEquals("homekv.cli/homekv.cli.Homekv\nx\n", afterFlags(program));
        }
        assertEquals(1, Files.readString(builds).lines().count());
    }

    @Test
    void aKilledBuildIsDoneAgainFromTheStart() throws IOException {
        Path leftOver = checkout.resolve("src/homekv.cli/target/half.jar");
        Files.createDirectories(leftOver.getParent());
        Files.writeString(leftOver, "");
        Files.createDirectories(checkout.resolve("jlink/target"));
        Files.createSymbolicLink(checkout.resolve("jlink/target/lock"), Path.of("99999999"));

        assertEquals(0, inCheckout("/bin/sh", "homekv").awaitExit());
        assertTrue(Files.notExists(leftOver));
    }

    @Test
    void saysInOneLineWhatIsMissing() throws IOException {
        maven("3.6.3");
        assertFails(
                "building needs Maven, version 3.8 or newer; this one is 3.6: install it (https://maven.apache.org) and"
                        + " put mvn on the PATH");
        Files.delete(tools.resolve("mvn"));
        assertFails(
                "building needs Maven, version 3.8 or newer: install it (https://maven.apache.org) and put mvn on the"
                        + " PATH");
    }

    @Test
    void saysInOneLineWhatWentWrong() throws IOException {
        Path log = checkout.resolve("jlink/target/build.log");
        maven("3.9.0", "echo '[ERROR] COMPILATION ERROR : '", "echo '[ERROR] A.java:[1,1] no'", "exit 1");
        assertFails("the build failed: A.java:[1,1] no; see " + log);
        maven("4.0.0", "echo '[ERROR] Could not transfer artifact a:b:jar:1 from/to central'", "exit 1");
        assertFails(
                "building needs libraries from the network (Maven Central) that it cannot get: connect, or name your"
                        + " mirror or proxy in ~/.m2/settings.xml, and start again; see " + log);
    }

    /** The last line on standard error is that, and all before it says that a build has begun. */
    private void assertFails(String message) throws IOException {
        Program program = inCheckout("/bin/sh", "hkvctl", "get", "a");
        assertEquals(1, program.awaitExit());
        assertEquals("", program.out());
        List<String> lines = program.err().lines().toList();
        assertEquals("hkvctl: " + message, lines.getLast());
        assertTrue(lines.size() == 1 || lines.size() == 2 && lines.getFirst().contains(" building the "), program::err);
    }

    private Program inImage(String shell, String name, List<String> arguments) throws IOException {
        var command = new ArrayList<>(List.of(shell.split(" ")));
        command.add(folder.resolve("image/bin").resolve(name).toString());
        command.addAll(arguments);
        return Program.run(environment(), command);
    }

    private Program inCheckout(String shell, String name, String... arguments) {
        var command = new ArrayList<>(List.of(shell.split(" ")));
        command.addAll(Program.command(checkout.resolve("bin").resolve(name), arguments));
        return Program.run(environment(), command);
    }

    private Map<String, String> environment() {
        return Map.of("PATH", tools.toString(), "JAVA_HOME", jdk.toString(), "HOME", folder.toString());
    }

    private static String afterFlags(Program program) {
        return program.out().substring(program.out().indexOf("\n-m\n") + "\n-m\n".length());
    }

    /** Every shell of this machine that launchers have to work in. */
    private static Stream<String> shells() {
        return Stream.of("sh", "dash", "bash --posix", "bash", "busybox sh", "zsh --emulate sh")
                .filter(shell -> Files.exists(found(shell.split(" ")[0])))
                .map(shell -> found(shell.split(" ")[0]) + shell.replaceFirst("^[^ ]*", ""));
    }

    private static Path found(String tool) {
        Path path = Path.of("/bin", tool);
        return Files.exists(path) ? path : Path.of("/usr/bin", tool);
    }

    private void maven(String version, String... build) throws IOException {
        script(
                tools.resolve("mvn"),
                "if [ \"$*\" = -v ]; then echo 'Apache Maven " + version + " (x)'; exit; fi\n"
                        + String.join("\n", build));
    }

    private static void script(Path path, String text) throws IOException {
        Files.createDirectories(path.getParent());
        Files.writeString(path, "#!/bin/sh\n" + text + "\n");
        Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    private static void copyLaunchers(Path into) throws IOException {
        for (String name : List.of("homekv", "hkvctl")) {
            Files.copy(LAUNCHERS.resolve(name), into.resolve(name), LinkOption.NOFOLLOW_LINKS);
        }
    }
}
