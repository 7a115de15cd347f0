package homekv.storage;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;

/**
 * Appends to a file, and forces it again and again, so that the disk is never asked for much at once and a force of
 * somebody else's does not wait long. The end has to be forced by who uses this. Closing it closes nothing.
 */
final class DiskFileOutput extends OutputStream {
    private static final int FORCE_BYTES = 1 << 20;

    private final DiskFile file;
    private int unforcedBytes;

    DiskFileOutput(DiskFile file) {
        this.file = file;
    }

    @Override
    public void write(int b) throws IOException {
        write(new byte[] {(byte) b}, 0, 1);
    }

    @Override
    public void write(byte[] bytes, int offset, int length) throws IOException {
        ByteBuffer from = ByteBuffer.wrap(bytes, offset, length);
        int end = from.limit();
        while (from.position() < end) {
            from.limit(Math.min(end, from.position() + FORCE_BYTES - unforcedBytes));
            unforcedBytes += from.remaining();
            file.append(from);
            if (unforcedBytes == FORCE_BYTES) {
                file.force();
                unforcedBytes = 0;
            }
        }
    }
}
