using System.Security.Cryptography;
using System.Text;
using Xunit;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Tokens;

/// <summary>NFC of every Unicode character, alone and among combining marks: hashes computed with Python's unicodedata 16.0.</summary>
public class TokenizerNormalizationTests
{
    private readonly TokenizerNormalization _normalization = new();

    [Fact]
    public void Every_character_alone() =>
        Assert.Equal("900f12a0fd5b368b56e972d9dcc9cc0584951930f9d9724d079e44f36f332796", Hash(string.Join('\n', All().Select(Compose))));

    [Fact]
    public void Every_character_among_marks_and_jamo() =>
        Assert.Equal(
            "47309345617258f9eb35a4f5726d32cf4822988e7b03f60bd0883e05ac77baa2",
            Hash(string.Join('\n', All().Select(c => Compose(c + "\u0301\u0323" + c + "\u1161\u11A8")))));

    [Fact]
    public void All_characters_in_one_text() =>
        Assert.Equal("2b692aef69e8e977e4a9a19e8d660fef02b2b3acc529eec8c4954b3e08433c1d", Hash(Compose(string.Concat(All()))));

    [Fact]
    public void The_fast_check_passes_only_what_does_not_change()
    {
        var passed = 0;
        foreach (var c in All())
        {
            foreach (var text in (string[])[c, "e" + c, c + "\u0041", "\u1100" + c, "\uAC00" + c])
            {
                if (TokenizerNormalization.IsCertainlyComposed(text))
                {
                    passed++;
                    Assert.Equal(text, Compose(text));
                }
            }
        }

        Assert.True(passed > 5_000_000, "almost every character is its own NFC");
    }

    [Fact]
    public void Many_marks_in_a_row_are_sorted_in_good_time()
    {
        var text = "a" + string.Concat(Enumerable.Repeat("\u0301\u0323", 100_000));
        var composed = Compose(text);
        Assert.Equal('\u1EA1', composed[0]);                  // a with dot below: class 220 comes before 230
        Assert.Equal(new string('\u0323', 99_999) + new string('\u0301', 100_000), composed[1..]);
    }

    [Fact]
    public void Lone_surrogates_stay()
    {
        Assert.Equal("\uD800é\uDC00", Compose("\uD800e\u0301\uDC00"));
    }

    private static IEnumerable<string> All() =>
        Enumerable.Range(0, 0x110000).Where(c => c is < 0xD800 or > 0xDFFF).Select(char.ConvertFromUtf32);

    private static string Hash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    private string Compose(string text) => _normalization.Compose(text).ToString();
}
