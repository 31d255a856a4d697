using System.Text;
using Xunit;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Data;

/// <summary>What reading costs in memory; alone, because the managed heap is the whole process's.</summary>
[Collection("alone")]
public sealed class SftReaderMemoryTests
{
    private const string Ab = """{"question":"a","response":"b"}""";

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_stream_of_any_length_is_read_in_constant_memory(bool array)
    {
        using var stream = new Endless(array ? "[" : "", Encoding.UTF8.GetBytes(Ab.Replace("b", new string('b', 1000), StringComparison.Ordinal) + (array ? "," : "\n")));
        var before = GC.GetTotalMemory(forceFullCollection: true);     // what earlier tests left behind
        var peak = 0L;
        var seen = 0;
        foreach (var _ in new SftReader(null, BrokenLinePolicy.Stop, new DataReport()).Read(stream, "x"))
        {
            if (++seen % 10_000 == 0)
            {
                peak = Math.Max(peak, GC.GetTotalMemory(forceFullCollection: true));
            }

            if (seen == 60_000)
            {
                break;                          // about 60 MB of text
            }
        }

        Assert.Equal(60_000, seen);
        Assert.InRange(stream.Given, 60_000_000, 64_000_000);
        Assert.InRange(peak - before, long.MinValue, 40L << 20);
    }

    /// <summary>The same line over and over.</summary>
    private sealed class Endless(string opening, byte[] line) : Stream
    {
        public long Given { get; private set; }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count)
        {
            for (var i = 0; i < count; i++)
            {
                var at = Given++ - opening.Length;
                buffer[offset + i] = at < 0 ? (byte)opening[(int)(at + opening.Length)] : line[at % line.Length];
            }

            return count;
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
