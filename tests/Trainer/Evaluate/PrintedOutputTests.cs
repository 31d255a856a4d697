using Xunit;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>LiveCodeBench's comparison, case by case, each with the verdict that the official checker gives.</summary>
public sealed class PrintedOutputTests
{
    [Theory]
    [InlineData("3\n", "3", true)]
    [InlineData("  3  \n\n", "3\n", true)]
    [InlineData("a \n b\n", "a\nb", true)]
    [InlineData("a  b", "a b", false)]                  // no numbers: blanks inside a line count
    [InlineData("1  2", "1 2", true)]                   // numbers: they do not
    [InlineData("1 2", "1\n2", false)]
    [InlineData("1.0", "1", true)]
    [InlineData("1.00 2e3", "1 2000", true)]
    [InlineData("1e0", "1", true)]
    [InlineData("-0.50", "-.5", true)]
    [InlineData("0", "-0.0", true)]
    [InlineData("0.1", "0.10000000000000001", false)]   // decimals, no tolerance
    [InlineData("50000000000000000", "50000000000000001", false)]
    [InlineData("100000000000000000000000000000", "1e29", true)]
    [InlineData("1e999999999", "1e999999998", false)]
    [InlineData("YES", "Yes", false)]
    [InlineData("1 x", "1.0 x", false)]
    [InlineData("Infinity", "inf", true)]
    [InlineData("nan", "NaN", false)]
    [InlineData("", "", true)]
    [InlineData("", "0", false)]
    [InlineData("1\n\n2", "1\n2", false)]
    [InlineData("+7", "7", true)]
    [InlineData("7.", "7", true)]
    [InlineData("007", "7", true)]
    [InlineData("1e", "1", false)]
    [InlineData(".", "0", false)]
    public void Two_texts_match_or_do_not(string printed, string expected, bool same)
    {
        Assert.Equal(same, PrintedOutput.Matches(printed, expected));
        Assert.Equal(same, PrintedOutput.Matches(expected, printed));
    }

    [Fact]
    public void The_difference_names_its_line()
    {
        Assert.Equal("line 2: printed \"x\", expected \"y\"", PrintedOutput.Difference("a\nx\n", "a\ny\n"));
        Assert.Equal("1 lines printed, 2 expected", PrintedOutput.Difference("a", "a\nb"));
        Assert.True(PrintedOutput.Difference(new string('z', 5000), "y")!.Length < 200);
    }
}
