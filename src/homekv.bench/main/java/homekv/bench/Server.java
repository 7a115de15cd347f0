package homekv.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A server out of the image, as it is shipped, on a port of this machine's that was free. For one thread. */
final class Server implements AutoCloseable {
    private final Process process;

    final int port;

    Server(Path image, List<String> arguments) throws IOException {
        List<String> command =
                new ArrayList<>(List.of(image.resolve("bin/homekv").toString(), "-h", "-p", "0"));
        command.addAll(arguments);
        process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        BufferedReader lines = process.inputReader();
        String ready = lines.readLine();
        if (ready == null) {
            throw new IOException("a server has ended; see above");
        }
        port = Integer.parseInt(ready.replaceFirst(".*:(\\d+).*", "$1"));
    }

    /** Bytes of main memory that it takes now, by what Linux tells, or -1. */
    long residentBytes() throws IOException {
        Path status = Path.of("/proc/" + process.pid() + "/status");
        if (!Files.isReadable(status)) {
            return -1;
        }
        return Files.readAllLines(status).stream()
                .filter(line -> line.startsWith("VmRSS:"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")) << 10)
                .findFirst()
                .orElse(-1);
    }

    /** Bytes of live heap, after a full collection. */
    long liveBytes() throws IOException {
        Process jcmd = new ProcessBuilder(
                        System.getProperty("java.home") + "/bin/jcmd", "" + process.pid(), "GC.class_histogram")
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        return jcmd.inputReader()
                .lines()
                .filter(line -> line.startsWith("Total"))
                .mapToLong(line -> Long.parseLong(line.strip().split(" +")[2]))
                .findFirst()
                .orElseThrow();
    }

    /** Ends it. */
    @Override
    public void close() {
        process.destroy();
        try {
            if (process.waitFor(10, TimeUnit.SECONDS)) {
                return;
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        process.destroyForcibly();
    }
}
