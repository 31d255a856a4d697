using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Serve;

namespace Z1Coder.Tests.Trainer.Serve;

/// <summary>What a server takes from generation_config.json.</summary>
public sealed class ServeModelTests : IDisposable
{
    private readonly ServedModel _served = new();

    public void Dispose() => _served.Dispose();

    [Theory]
    [InlineData("{}", 1, 1, 0)]
    [InlineData("""{"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}""", 0.7, 0.8, 20)]
    [InlineData("""{"do_sample": null, "temperature": null, "top_p": null, "top_k": null}""", 1, 1, 0)]
    [InlineData("""{"temperature": 0}""", 0, 1, 0)]
    public void Its_sampling_is_the_default(string file, double temperature, double topP, int topK)
    {
        var sampling = Load(file);
        Assert.Equal(((float)temperature, (float)topP, topK), (sampling.Temperature, sampling.TopP, sampling.TopK));
    }

    [Fact]
    public void A_model_that_does_not_sample_is_greedy() =>
        Assert.Equal(0, Load("""{"do_sample": false, "temperature": 0.7}""").Temperature);

    [Theory]
    [InlineData("""{"do_sample": "yes"}""", "do_sample is \"yes\"; it must be true or false")]
    [InlineData("""{"do_sample": false, "temperature": "0.7"}""", "temperature is \"0.7\"; it must be a number of 0 or more")]
    [InlineData("""{"temperature": -1}""", "temperature is -1;")]
    [InlineData("""{"temperature": 1e400}""", "temperature is 1e400;")]
    [InlineData("""{"top_p": [0.8]}""", "top_p is [0.8]; it must be a number of 0 or more")]
    [InlineData("""{"top_k": 1.5}""", "top_k is 1.5; it must be a whole number")]
    [InlineData("""{"top_k": true}""", "top_k is true; it must be a whole number")]
    [InlineData("""{"top_p": 1.5}""", "top_p 1.5")]
    [InlineData("""{"top_p": 0}""", "top_p 0")]
    [InlineData("""{"temperature": 101}""", "temperature 101")]
    [InlineData("""{"top_p": 0.5, "top_p": 0.6}""", "not valid JSON")]
    [InlineData("[]", "not a JSON object")]
    [InlineData("{", "not valid JSON")]
    public void A_wrong_key_is_named(string file, string part)
    {
        var error = Assert.Throws<InvalidInputException>(() => Load(file));
        Assert.Contains("generation_config.json", error.Message, StringComparison.Ordinal);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }

    private Sampling Load(string file)
    {
        File.WriteAllText(Path.Combine(_served.Directory, "generation_config.json"), file);
        return ServeModel.Load(_served.Directory, null).Sampling;
    }
}
