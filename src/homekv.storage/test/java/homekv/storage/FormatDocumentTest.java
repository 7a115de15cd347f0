package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** FORMAT.md shows a segment byte by byte; it is one, and the only form of what it holds. */
class FormatDocumentTest {
    /** An offset, some bytes, and, two spaces further, what they mean. */
    private static final Pattern LINE = Pattern.compile("([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)(?: .*)?");

    private static final SegmentHeader HEADER =
            new SegmentHeader(0x1122334455667788L, 0x0102030405060708L, 3, 41, 0xa1a2a3a4a5a6a7a8L, Durability.FORCED);

    private static final List<LogRecord> RECORDS = List.of(
            new LogRecord.Granted(9, 60_000, 2),
            new LogRecord.Committed(
                    18,
                    List.of(
                            new Write.Put(Bytes.utf8("k"), Bytes.utf8("v1")),
                            new Write.Put(Bytes.utf8("m"), Bytes.utf8(""), 9),
                            new Write.Delete(Bytes.utf8("old"))),
                    0,
                    0),
            new LogRecord.Compacted(18),
            new LogRecord.Committed(19, List.of(new Write.Delete(Bytes.utf8("m"))), 9, 2),
            new LogRecord.Closed(List.of(new LeaseLeft(8, 5_000, 1_234, 1, false))));

    private static final List<Long> FORCED = List.of(40L, 40L, 42L, 43L, 44L);

    @Test
    void theExampleSegmentOfFormatMdIsReadAsItSaysAndWrittenAsItStands() throws Exception {
        byte[] example = example();
        String name = FileNames.segment(HEADER.number());
        SplittableRandom random = new SplittableRandom(1);
        try (SegmentReader reader = SegmentReader.open(SimulatedDisk.of(random, Map.of(name, example)), name)) {
            assertEquals(HEADER, reader.header());
            for (int i = 0; i < RECORDS.size(); i++) {
                assertTrue(reader.next(), reader.badness());
                assertEquals(RECORDS.get(i), reader.record());
                assertEquals(HEADER.firstSequence() + i, reader.sequence());
                assertEquals(FORCED.get(i), reader.forcedSequence());
            }
            assertFalse(reader.next());
            assertNull(reader.badness());
        }
        assertArrayEquals(written(), example);
    }

    private static byte[] written() throws Exception {
        SimulatedDisk disk = new SimulatedDisk(new SplittableRandom(1));
        try (SegmentWriter writer = SegmentWriter.begin(disk, HEADER)) {
            for (int i = 0; i < RECORDS.size(); i++) {
                writer.add(RECORDS.get(i), HEADER.firstSequence() + i, FORCED.get(i));
            }
            writer.flush();
        }
        return disk.files().get(FileNames.segment(HEADER.number()));
    }

    private static byte[] example() throws Exception {
        List<String> lines = Files.readAllLines(document());
        int begin = lines.indexOf("```hexdump");
        assertTrue(begin >= 0, "FORMAT.md has its example in ```hexdump");
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        List<String> notUnderstood = new ArrayList<>();
        for (String line : lines.subList(begin + 1, lines.size())) {
            if (line.equals("```")) {
                break;
            }
            Matcher matcher = LINE.matcher(line);
            if (line.isEmpty()) {
                continue;
            } else if (!matcher.matches()) {
                notUnderstood.add(line);
                continue;
            }
            assertEquals(bytes.size(), Integer.parseInt(matcher.group(1), 16), "the offset in: " + line);
            bytes.writeBytes(
                    HexFormat.ofDelimiter(" ").parseHex(matcher.group(2).strip()));
        }
        assertEquals(List.of(), notUnderstood);
        return bytes.toByteArray();
    }

    private static Path document() throws Exception {
        Path folder = Harness.root(FormatDocumentTest.class);
        while (!Files.exists(folder.resolve("FORMAT.md"))) {
            folder = folder.getParent();
        }
        return folder.resolve("FORMAT.md");
    }
}
