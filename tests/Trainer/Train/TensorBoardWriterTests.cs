using System.Buffers.Binary;
using System.Text;
using Xunit;
using Z1Coder.Tests.Trainer.Checkpoints;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

public sealed class TensorBoardWriterTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>Check values: the catalogue of CRCs for "123456789"; RFC 3720 B.4 for the rest.</summary>
    [Fact]
    public void The_checksum_is_Castagnolis()
    {
        Assert.Equal(Mask(0xE3069283), TensorBoardWriter.MaskedCrc("123456789"u8));
        Assert.Equal(Mask(0x8A9136AA), TensorBoardWriter.MaskedCrc(new byte[32]));
        Assert.Equal(Mask(0x62A8AB43), TensorBoardWriter.MaskedCrc([.. Enumerable.Repeat((byte)0xFF, 32)]));
        Assert.Equal(Mask(0x46DD794E), TensorBoardWriter.MaskedCrc([.. Enumerable.Range(0, 32).Select(i => (byte)i)]));
        Assert.Equal(Mask(0x113FDB5C), TensorBoardWriter.MaskedCrc([.. Enumerable.Range(0, 32).Select(i => (byte)(31 - i))]));
        Assert.Equal(Mask(0), TensorBoardWriter.MaskedCrc([]));
    }

    [Fact]
    public void A_file_reads_back_record_by_record()
    {
        (string Tag, long Step, double Value)[] written =
        [
            ("train/loss", 1, 6.25), ("train/loss", 2, -0.1), ("eval/é", 300, 1e30), ("x", long.MaxValue, double.NaN),
            (new string('t', 300), 0, 0),
        ];
        using (var writer = new TensorBoardWriter(_folder["log"], 301))
        {
            foreach (var (tag, step, value) in written)
            {
                writer.Scalar(tag, step, value);
            }

            writer.Flush();
            Assert.Equal(written.Length + 2, Records(Assert.Single(Directory.GetFiles(_folder["log"]))).Count);    // readable while open
        }

        var file = Assert.Single(Directory.GetFiles(_folder["log"]));
        Assert.StartsWith("events.out.tfevents.", Path.GetFileName(file));
        var records = Records(file);
        Assert.Equal("brain.Event:2", Encoding.UTF8.GetString(Fields(records[0])[3]));
        var start = Fields(records[1]);          // readers purge from its step on what earlier files hold
        Assert.Equal(301, (long)BinaryPrimitives.ReadUInt64LittleEndian(start[2]));
        Assert.Equal([8, 1], start[7]);          // SessionLog {status: START}
        for (var i = 0; i < written.Length; i++)
        {
            var record = Fields(records[i + 2]);
            var value = Fields(Fields(record[5])[1]);
            Assert.Equal(written[i].Step, (long)BinaryPrimitives.ReadUInt64LittleEndian(record[2]));
            Assert.Equal(written[i].Tag, Encoding.UTF8.GetString(value[1]));
            Assert.Equal((float)written[i].Value, BinaryPrimitives.ReadSingleLittleEndian(value[2]));
            var age = DateTimeOffset.UtcNow.ToUnixTimeSeconds() - BinaryPrimitives.ReadDoubleLittleEndian(record[1]);
            Assert.InRange(age, -5, 600);
        }
    }

    [Fact]
    public void Two_writers_of_one_second_have_a_file_each()
    {
        using var first = new TensorBoardWriter(_folder["log"], 1);
        using var second = new TensorBoardWriter(_folder["log"], 1);
        Assert.Equal(2, Directory.GetFiles(_folder["log"]).Length);
    }

    private static uint Mask(uint crc) => unchecked(((crc >> 15) | (crc << 17)) + 0xa282ead8);

    private static List<byte[]> Records(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        var bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        var records = new List<byte[]>();
        for (var at = 0; at < bytes.Length;)
        {
            var length = (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(at));
            Assert.Equal(BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at + 8)), TensorBoardWriter.MaskedCrc(bytes.AsSpan(at, 8)));
            var payload = bytes[(at + 12)..(at + 12 + length)];
            Assert.Equal(BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at + 12 + length)), TensorBoardWriter.MaskedCrc(payload));
            records.Add(payload);
            at += length + 16;
        }

        return records;
    }

    /// <summary>One protocol buffer message whose fields occur once; a varint comes as eight bytes.</summary>
    private static Dictionary<int, byte[]> Fields(byte[] message)
    {
        var fields = new Dictionary<int, byte[]>();
        for (var at = 0; at < message.Length;)
        {
            var key = Varint();
            var bytes = (key & 7) switch
            {
                0 => BitConverter.GetBytes(Varint()),
                1 => Take(8),
                2 => Take((int)Varint()),
                5 => Take(4),
                var wire => throw new InvalidDataException($"wire type {wire}"),
            };
            fields.Add((int)(key >> 3), bytes);

            ulong Varint()
            {
                ulong value = 0;
                for (var shift = 0; ; shift += 7)
                {
                    value |= (ulong)(message[at] & 0x7F) << shift;
                    if (message[at++] < 0x80)
                    {
                        return value;
                    }
                }
            }

            byte[] Take(int count) => message[at..(at += count)];
        }

        return fields;
    }
}
