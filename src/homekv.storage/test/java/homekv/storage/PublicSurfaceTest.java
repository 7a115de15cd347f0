package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.module.ModuleDescriptor;
import java.lang.module.ModuleFinder;
import java.lang.reflect.Modifier;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** What the module shows to others, named here so that nothing joins it by accident. */
class PublicSurfaceTest {
    @Test
    void theModuleExportsItsOnePackageAndNeedsNothingButTheBase() throws Exception {
        ModuleDescriptor module = ModuleFinder.of(Harness.root(MvccStore.class))
                .find("homekv.storage")
                .orElseThrow()
                .descriptor();
        assertEquals(
                Set.of("homekv.storage"),
                module.exports().stream()
                        .map(ModuleDescriptor.Exports::toString)
                        .collect(Collectors.toSet()));
        assertEquals(
                Set.of("java.base"),
                module.requires().stream().map(ModuleDescriptor.Requires::name).collect(Collectors.toSet()));
        assertEquals(Set.of(), module.opens());
        assertEquals(Set.of(), module.provides());
        assertEquals(Set.of(), module.uses());
        assertEquals(Set.of("homekv.storage"), module.packages());
    }

    @Test
    void thePublicTypesAreThese() throws Exception {
        Path root = Harness.root(MvccStore.class);
        Set<String> publicTypes = new TreeSet<>();
        try (Stream<Path> files = Files.walk(root)) {
            for (Path file :
                    files.filter(file -> file.toString().endsWith(".class")).toList()) {
                String name = root.relativize(file)
                        .toString()
                        .replace(file.getFileSystem().getSeparator(), ".");
                if (!name.startsWith("homekv.storage.") || name.contains("package-info")) {
                    continue;
                }
                Class<?> type = Class.forName(name.substring(0, name.length() - ".class".length()));
                if (isPublic(type)) {
                    publicTypes.add(type.getName().substring("homekv.storage.".length()));
                }
            }
        }
        assertEquals(
                new TreeSet<>(Set.of(
                        "Bytes",
                        "Command",
                        "Command$Compact",
                        "Command$Del",
                        "Command$Grant",
                        "Command$Revoke",
                        "Command$Set",
                        "CommandLog",
                        "Compare",
                        "Compare$Count",
                        "Compare$Field",
                        "Compare$Number",
                        "Compare$Operator",
                        "Compare$Value",
                        "Counters",
                        "DataDirectoryException",
                        "Difference",
                        "Durability",
                        "Entry",
                        "Event",
                        "Event$Delete",
                        "Event$Put",
                        "LeaseStatus",
                        "Limit",
                        "Limits",
                        "LogOptions",
                        "LogStoppedException",
                        "MemoryCommandLog",
                        "MvccStore",
                        "Op",
                        "Op$Delete",
                        "Op$Get",
                        "Op$Increment",
                        "Op$Put",
                        "Op$Scan",
                        "OpResult",
                        "OpResult$Deleted",
                        "OpResult$Got",
                        "OpResult$Incremented",
                        "OpResult$Put",
                        "OpResult$Scanned",
                        "OpResult$Transacted",
                        "Range",
                        "Reading",
                        "Result",
                        "Result$Applied",
                        "Result$DiskFull",
                        "Result$LeaseExists",
                        "Result$NoLease",
                        "Result$NotAnInteger",
                        "Result$OutOfRange",
                        "Result$Refused",
                        "Result$Transacted",
                        "RevisionOutOfRangeException",
                        "Snapshot",
                        "SnapshotExpiredException",
                        "SnapshotFileInfo",
                        "Txn",
                        "ConflictException",
                        "Transaction",
                        "TransactionRefusedException",
                        "Transactions",
                        "Transactions$Source",
                        "Transactions$View",
                        "Watch",
                        "Write",
                        "WriteAheadLog",
                        "Write$Delete",
                        "Write$Put")),
                publicTypes);
    }

    /** A member of an interface is public without saying so; a type is only as public as those around it. */
    private static boolean isPublic(Class<?> type) {
        for (Class<?> each = type; each != null; each = each.getEnclosingClass()) {
            if (!Modifier.isPublic(each.getModifiers())) {
                return false;
            }
        }
        return !type.isAnonymousClass() && !type.isLocalClass();
    }

    @Test
    void theExampleOfThePackageDocumentationPrintsWhatItsCommentsSay() throws Exception {
        List<String> program = program();
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream out = System.out;
        System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
        try {
            EmbeddedExample.main(new String[0]);
        } finally {
            System.setOut(out);
        }
        List<String> promised = program.stream()
                .filter(line -> line.contains("println("))
                .map(line -> line.substring(line.lastIndexOf("// ") + 3))
                .toList();
        assertEquals(2, promised.size());
        assertEquals(promised, printed.toString(StandardCharsets.UTF_8).lines().toList());
    }

    @Test
    void theExampleOfThePackageDocumentationHasUnderTwentyLines() throws Exception {
        List<String> program = program();
        assertTrue(!program.isEmpty() && program.size() < 20, () -> program.size() + " lines");
    }

    /** The region of the example's source that the documentation shows. */
    private static List<String> program() throws Exception {
        Path folder = Harness.root(EmbeddedExample.class);
        while (!Files.exists(folder.resolve(SOURCE)) && folder.getParent() != null) {
            folder = folder.getParent();
        }
        List<String> lines = Files.readAllLines(folder.resolve(SOURCE));
        int start = indexOf(lines, "// @start region=\"program\"");
        int end = indexOf(lines, "// @end");
        return lines.subList(start + 1, end);
    }

    private static final Path SOURCE = Path.of("test", "java", "homekv", "storage", "EmbeddedExample.java");

    private static int indexOf(List<String> lines, String marker) {
        for (int i = 0; i < lines.size(); i++) {
            if (lines.get(i).strip().equals(marker)) {
                return i;
            }
        }
        throw new AssertionError("no line " + marker);
    }
}
