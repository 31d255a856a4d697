using System.Text;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;

namespace Z1Coder.Tests.Trainer.Checkpoints;

public sealed class SafetensorsWriterTests
{
    [Fact]
    public void A_file_is_these_bytes_and_no_others()
    {
        using var stream = new MemoryStream();
        var writer = new SafetensorsWriter(
            stream, [new("w", SafetensorDtype.F32, 1, 2), new("b", SafetensorDtype.BF16, 2), new("none", SafetensorDtype.F32, 0), new("s", SafetensorDtype.I32)],
            new Dictionary<string, string> { ["format"] = "pt" });
        writer.Write("w", [1f]);
        writer.Write("w", [-2f]);
        writer.Write("b", [1f, 1f + (1f / 256)]); // the second lies halfway and goes to the even neighbour
        writer.Write("s", [7]);
        writer.Complete();
        var header = """{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]},"none":{"dtype":"F32","shape":[0],"data_offsets":[12,12]},"s":{"dtype":"I32","shape":[],"data_offsets":[12,16]}}""";
        var padded = header.PadRight((header.Length + 7) / 8 * 8);
        byte[] expected = [.. BitConverter.GetBytes((ulong)padded.Length), .. Encoding.UTF8.GetBytes(padded),
            0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0, 0x80, 0x3F, 0x80, 0x3F, 7, 0, 0, 0];
        Assert.Equal(expected, stream.ToArray());
    }

    [Fact]
    public void Views_of_any_type_are_written_whole()
    {
        using var arena = new Arena("test");
        var floats = arena.Declare<float>(3, 5, 7);
        var brains = arena.Declare<BFloat16>(300, 2001);
        arena.Allocate();
        for (var i = 0; i < floats.Count; i++)
        {
            floats.Span[i] = i / 8f;
        }

        for (var i = 0; i < brains.Count; i++)
        {
            brains.Span[i] = (BFloat16)(i % 251);
        }

        using var stream = new MemoryStream();
        var writer = new SafetensorsWriter(stream, [new("f", SafetensorDtype.F32, 3, 5, 7), new("wide", SafetensorDtype.F32, 300, 2001), new("b", SafetensorDtype.BF16, 300, 2001)]);
        writer.Write("f", floats);
        writer.Write("wide", brains);
        writer.Write("b", brains);
        writer.Complete();
        using var folder = new TemporaryFolder();
        using var file = SafetensorsFile.Open(folder.Write("x", stream.ToArray()));
        Assert.Equal(floats.Span.ToArray(), file.ReadFloats("f"));
        Assert.Equal(brains.Span.ToArray().Select(b => (float)b), file.ReadFloats("wide"));
        var back = new BFloat16[brains.Count];
        file.Read("b", back);
        Assert.Equal(brains.Span.ToArray(), back);
        Array.Clear(back);
        file.Read("wide", back);
        Assert.Equal(brains.Span.ToArray(), back);
    }

    [Fact]
    public void Misuse_is_noticed()
    {
        Assert.Throws<ArgumentException>(() => Writer(new("a", SafetensorDtype.F32, 1), new("a", SafetensorDtype.F32, 1)));
        Assert.Throws<ArgumentException>(() => Writer(new SafetensorInfo("__metadata__", SafetensorDtype.F32, 1)));
        Assert.Throws<OverflowException>(() => new SafetensorInfo("a", SafetensorDtype.F32, long.MaxValue));
        Assert.Throws<ArgumentOutOfRangeException>(() => new SafetensorInfo("a", SafetensorDtype.F32, -1));
        var two = Writer(new("a", SafetensorDtype.F32, 2), new("b", SafetensorDtype.I32, 1));
        Assert.Throws<InvalidOperationException>(() => two.Write("b", [1]));
        Assert.Throws<ArgumentException>(() => two.Write("a", [1f, 2f, 3f]));
        Assert.Throws<ArgumentException>(() => two.Write("a", [1]));
        Assert.Throws<ArgumentException>(() => two.WriteBytes("a", new byte[3]));
        two.Write("a", [1f]);
        Assert.Contains("4 of its 8", Assert.Throws<InvalidOperationException>(two.Complete).Message);
        two.Write("a", [1f]);
        Assert.Throws<InvalidOperationException>(() => two.Write("a", [1f]));
        two.Write("b", [1]);
        two.Complete();
    }

    private static SafetensorsWriter Writer(params SafetensorInfo[] tensors) => new(new MemoryStream(), tensors);
}
