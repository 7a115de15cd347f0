package homekv.image;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The README's transcript, word for word, through the image's programs. */
final class TranscriptTest {
    private static final Path README = Path.of("../README.md");
    private static final Path TARGET = Path.of("target").toAbsolutePath();
    private static final String COMMAND = "    $ bin/hkvctl ";

    @ParameterizedTest
    @MethodSource("environments")
    void theTranscriptGivesItsDocumentedOutput(Map<String, String> environment) throws IOException {
        Path bin = TARGET.resolve(Files.readAllLines(TARGET.resolve("built")).getFirst())
                .resolve("bin");
        String documented = documentedTranscript();
        try (Program server = Program.start(environment, Program.command(bin.resolve("homekv"), "-h", "-p", "0"))) {
            String port = server.awaitPort();
            StringBuilder actual = new StringBuilder();
            for (String line :
                    documented.lines().filter(line -> line.startsWith(COMMAND)).toList()) {
                String arguments = line.substring(COMMAND.length()).replace("-p 20001", "-p " + port);
                var command = Program.command(bin.resolve("hkvctl"), arguments.split(" "));
                Program client = Program.run(environment, command);
                assertEquals("", client.err(), line);
                assertEquals(0, client.awaitExit(), line);
                actual.append(line).append('\n').append(client.out().indent(4));
            }
            // Where the README breaks off with an ellipsis, more may follow.
            int length = documented.indexOf('…') < 0
                    ? actual.length()
                    : documented.stripTrailing().length() - 5;
            assertEquals(documented.substring(0, length), actual.substring(0, length));

            assertEquals(0, server.terminate());
            assertEquals("", server.err());
        }
    }

    private static String documentedTranscript() throws IOException {
        String readme = Files.readString(README);
        StringBuilder blocks = new StringBuilder();
        for (int start = 0; (start = readme.indexOf("\n\n" + COMMAND, start)) >= 0; ) {
            int end = readme.indexOf("\n\n", start + 2);
            blocks.append(readme, start + 2, end + 1);
            start = end;
        }
        return blocks.toString();
    }

    private static List<Map<String, String>> environments() {
        return List.of(Map.of(), System.getenv());
    }
}
