using System.Buffers.Binary;
using System.Text;

namespace Z1Coder.Trainer.Train;

/// <summary>
/// Scalars as a TensorBoard event file: TFRecord framing (length, masked CRC-32C, payload, masked CRC-32C) around hand-encoded
/// tensorflow.Event protocol buffers {wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7}. tensorflow/core/util/event.proto.
/// </summary>
public sealed class TensorBoardWriter : IDisposable
{
    private static readonly uint[] s_crcTable = MakeTable();
    private const int SessionStart = 1;      // tensorflow.SessionLog {status = 1}: START

    private static int s_writers;
    private readonly FileStream _file;

    /// <summary>Creates events.out.tfevents.… in <paramref name="directory"/>; each writer adds a file of its own.</summary>
    /// <param name="directory">created where it is not there</param>
    /// <param name="firstStep">readers drop what earlier files say of this step and later ones: they run again</param>
    public TensorBoardWriter(string directory, long firstStep)
    {
        Directory.CreateDirectory(directory);
        var now = DateTimeOffset.UtcNow;
        var writer = Interlocked.Increment(ref s_writers) - 1;
        var name = $"events.out.tfevents.{now.ToUnixTimeSeconds()}.{Environment.MachineName}.{Environment.ProcessId}.{writer}";
        _file = new FileStream(
            Path.Combine(directory, name),
            FileMode.CreateNew, FileAccess.Write, FileShare.Read);
        var version = new MemoryStream();
        Double(version, 1, now.ToUnixTimeMilliseconds() / 1000.0);
        Bytes(version, 3, "brain.Event:2"u8);
        Record(version.ToArray());
        var session = new MemoryStream();
        Tag(session, 1, 0);
        Varint(session, SessionStart);
        Event(firstStep, 7, session.ToArray());
    }

    /// <summary>Adds one value.</summary>
    public void Scalar(string tag, long step, double value)
    {
        var item = new MemoryStream();
        Bytes(item, 1, Encoding.UTF8.GetBytes(tag));
        Float(item, 2, (float)value);
        var summary = new MemoryStream();
        Bytes(summary, 1, item.ToArray());
        Event(step, 5, summary.ToArray());
    }

    /// <summary>Hands everything to the operating system.</summary>
    public void Flush() => _file.Flush();

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    /// <summary>CRC-32C (Castagnoli), masked as TFRecord does: rotated right by 15 bits plus a constant.</summary>
    internal static uint MaskedCrc(ReadOnlySpan<byte> data)
    {
        var crc = 0xFFFFFFFFu;
        foreach (var b in data)
        {
            crc = s_crcTable[(crc ^ b) & 0xFF] ^ (crc >> 8);
        }

        crc = ~crc;
        return unchecked(((crc >> 15) | (crc << 17)) + 0xA282EAD8u);
    }

    private void Event(long step, int field, ReadOnlySpan<byte> what)
    {
        var record = new MemoryStream();
        Double(record, 1, DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1000.0);
        Tag(record, 2, 0);
        Varint(record, (ulong)step);
        Bytes(record, field, what);
        Record(record.ToArray());
    }

    private void Record(ReadOnlySpan<byte> payload)
    {
        Span<byte> frame = stackalloc byte[12];
        BinaryPrimitives.WriteUInt64LittleEndian(frame, (ulong)payload.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(frame[8..], MaskedCrc(frame[..8]));
        _file.Write(frame);
        _file.Write(payload);
        BinaryPrimitives.WriteUInt32LittleEndian(frame, MaskedCrc(payload));
        _file.Write(frame[..4]);
    }

    private static void Tag(Stream stream, int field, int wireType) => Varint(stream, (ulong)((field << 3) | wireType));

    private static void Varint(Stream stream, ulong value)
    {
        while (value >= 0x80)
        {
            stream.WriteByte((byte)(value | 0x80));
            value >>= 7;
        }

        stream.WriteByte((byte)value);
    }

    private static void Bytes(Stream stream, int field, ReadOnlySpan<byte> value)
    {
        Tag(stream, field, 2);
        Varint(stream, (ulong)value.Length);
        stream.Write(value);
    }

    private static void Double(Stream stream, int field, double value)
    {
        Span<byte> bytes = stackalloc byte[8];
        Tag(stream, field, 1);
        BinaryPrimitives.WriteDoubleLittleEndian(bytes, value);
        stream.Write(bytes);
    }

    private static void Float(Stream stream, int field, float value)
    {
        Span<byte> bytes = stackalloc byte[4];
        Tag(stream, field, 5);
        BinaryPrimitives.WriteSingleLittleEndian(bytes, value);
        stream.Write(bytes);
    }

    private static uint[] MakeTable()
    {
        var table = new uint[256];
        for (var i = 0u; i < 256; i++)
        {
            var crc = i;
            for (var bit = 0; bit < 8; bit++)
            {
                crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
            }

            table[i] = crc;
        }

        return table;
    }
}
