package homekv.image;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The README's transcript, through the image's programs. */
final class TranscriptTest {
    private static final Path TARGET = Path.of("target").toAbsolutePath();

    @ParameterizedTest
    @MethodSource("environments")
    void theTranscriptGivesItsDocumentedOutput(Map<String, String> environment) throws IOException {
        Path bin = TARGET.resolve(Files.readAllLines(TARGET.resolve("built")).getFirst())
                .resolve("bin");
        try (Program server = Program.start(environment, Program.command(bin.resolve("homekv"), "-h", "-p", "0"))) {
            String port = server.awaitPort();
            for (String[] step : new String[][] {
                {"--cmd set --kvs dummy_key=🦫", "OK revision=1"},
                {"--cmd set --kvs trail=big_cedder people=5 start_time=12:00", "OK revision=2"},
                {"--cmd get --keys dummy_key", "dummy_key=🦫"},
                {"--cmd get --keys trail people", "trail=big_cedder\npeople=5"},
                {"--cmd get --keys end_time", "end_time (not found)"},
                {"--cmd del --keys dummy_key", "OK deleted=1 revision=3"},
                {"--cmd del --keys people start_time", "OK deleted=2 revision=4"},
                {"--cmd del --keys end_time", "OK deleted=0 revision=4"},
            }) {
                Program client = call(environment, bin, port, step[0]);
                assertEquals(step[1] + "\n", client.out(), step[0]);
            }
            String metrics = call(environment, bin, port, "--cmd metrics").out();
            String original = "keys_count: 1\nvalues_size_in_bytes: 10\ncmds_count: 8\n";
            assertTrue(metrics.startsWith(original), metrics);

            assertEquals(0, server.terminate());
            assertEquals("", server.err());
        }
    }

    private static Program call(Map<String, String> environment, Path bin, String port, String arguments) {
        var command = Program.command(bin.resolve("hkvctl"), "-h", "-p", port);
        command.addAll(List.of(arguments.split(" ")));
        Program client = Program.run(environment, command);
        assertEquals("", client.err(), arguments);
        assertEquals(0, client.awaitExit(), arguments);
        return client;
    }

    private static List<Map<String, String>> environments() {
        return List.of(Map.of(), System.getenv());
    }
}
