using System.IO.Compression;
using System.Text;
using Xunit;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>Texts packed by Python 3.11 itself: base64(zlib(pickle(json.dumps(tests)))) in protocols 2 to 5.</summary>
public sealed class PickledTextTests
{
    internal const string Packed = "eJxrYJlaxgABPUXR1UqZeQWlJUpWCkrGMXlKOgpK+aUlUAFLiEBJanFJSWVBKkiouCQlM0+pVkcBSZ+uCbpGQzOcOmOn6AEARpImJg==";

    private const string Plain = """[{"input": "3\n", "output": "9\n", "testtype": "stdin"}, {"input": "-4\n", "output": "16\n", "testtype": "stdin"}]""";

    [Theory]
    [InlineData(Packed)]
    [InlineData("eJxrYIooYmBgiK5WyswrKC1RslJQMo7JU9JRUMovLYEKWEIESlKLS0oqC1JBQsUlKZl5SrU6Ckj6dE3QNRqa4dQZW8igBwDNJiTC")]
    [InlineData("eJxrYI4oYmBgiK5WyswrKC1RslJQMo7JU9JRUMovLYEKWEIESlKLS0oqC1JBQsUlKZl5SrU6Ckj6dE3QNRqa4dQZW8igBwDNoSTD")]
    [InlineData("eJxrYJ1axgABPUXR1UqZeQWlJUpWCkrGMXlKOgpK+aUlUAFLiEBJanFJSWVBKkiouCQlM0+pVkcBSZ+uCbpGQzOcOmOn6AEARxImJw==")]
    public void Every_protocol_gives_the_text(string packed) => Assert.Equal(Plain, Decoded(packed));

    [Fact]
    public void Other_characters_and_longer_texts_are_read()
    {
        Assert.Equal("é😀", Decoded("eJxrYJnKxQABPWyHV36YP6Nhih4ANP4Giw=="));
        Assert.Equal(new string('x', 300), Decoded("eJxrYJlqzMgABhE6QEbFKCAaTNEDAAgajzU="));
    }

    [Fact]
    public void Anything_but_one_string_is_refused()
    {
        Assert.Contains("pickle of one string", Refused("eJxrYJnKxQABtVN6GBOneDMW6wEALJIEpA=="), StringComparison.Ordinal);   // a dict
        Assert.Contains("zlib", Refused(Convert.ToBase64String("plain text, no zlib"u8.ToArray())), StringComparison.Ordinal);
        byte[][] broken =
        [
            [], [0x80], [0x80, 4], [0x95, 1, 2], [(byte)'X', 9, 0, 0, 0, 1], [(byte)'X', 255, 255, 255, 255, 1], [0x8D, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            [0x8C], [0x8C, 1, 65], [0x8C, 1, 65, (byte)'.', 0], [(byte)'.'], [0x8C, 1, 65, 0x8C, 1, 65, (byte)'.'], [(byte)'c', (byte)'o', (byte)'s', 10],
        ];
        foreach (var pickle in broken)
        {
            using var packed = new MemoryStream();
            using (var zip = new ZLibStream(packed, CompressionLevel.Fastest))
            {
                zip.Write(pickle);
            }

            Refused(Convert.ToBase64String(packed.ToArray()));
        }
    }

    private static string Refused(string packed) => Assert.Throws<FormatException>(() => Decoded(packed)).Message;

    private static string Decoded(string packed) => Encoding.UTF8.GetString(PickledText.Decode(Convert.FromBase64String(packed)).Span);
}
