using System.ClientModel;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Models;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Serve;

namespace Z1Coder.Tests.Trainer.Serve;

/// <summary>OpenAI's own client for .NET against a server with a real model of random weights.</summary>
public sealed class ServeClientTests : IAsyncLifetime
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private readonly ServedModel _served = new();
    private readonly CpuStream _stream = new(1);
    private DecodeEngine _engine = null!;
    private ModelServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        var model = ServeModel.Load(_served.Directory, "m");
        _engine = DecodeEngine.Open(_stream, _served.Directory, floats: true, model.Tokenizer, new DecodeEngineOptions { Slots = 4, Capacity = 128 });
        _server = await ModelServer.StartAsync(model, _engine, new ServeOptions { Key = "key" });
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        _engine.Dispose();
        _stream.Dispose();
        _served.Dispose();
    }

    [Fact]
    public async Task Chat_whole_and_streamed_give_the_same_text_and_usage()
    {
        var chat = Client().GetChatClient("m");
        ChatMessage[] messages = [new SystemChatMessage("Be brief."), new UserChatMessage("Add 3 to 4.")];
        var options = new ChatCompletionOptions { MaxOutputTokenCount = 30, Temperature = 0.9f, TopP = 0.9f };
#pragma warning disable OPENAI001 // the client marks Seed as under evaluation
        options.Seed = 42;
#pragma warning restore OPENAI001
        ChatCompletion whole = await chat.CompleteChatAsync(messages, options, Stop);
        var text = whole.Content[0].Text;
        Assert.NotEmpty(text);
        Assert.True(whole.FinishReason is ChatFinishReason.Length or ChatFinishReason.Stop);
        Assert.Equal(whole.Usage.TotalTokenCount, whole.Usage.InputTokenCount + whole.Usage.OutputTokenCount);
        var (streamed, usage, finish) = ("", (ChatTokenUsage?)null, (ChatFinishReason?)null);
        await foreach (var update in chat.CompleteChatStreamingAsync(messages, options, Stop))
        {
            streamed += string.Concat(update.ContentUpdate.Select(p => p.Text));
            usage = update.Usage ?? usage;
            finish = update.FinishReason ?? finish;
        }

        Assert.Equal((text, whole.FinishReason), (streamed, finish));
        Assert.Equal((whole.Usage.InputTokenCount, whole.Usage.OutputTokenCount), (usage!.InputTokenCount, usage.OutputTokenCount));
        var stop = text.Substring(text.Length / 2, 1);
        options.StopSequences.Add(stop);
        ChatCompletion cut = await chat.CompleteChatAsync(messages, options, Stop);
        Assert.Equal((text[..text.IndexOf(stop, StringComparison.Ordinal)], ChatFinishReason.Stop),
            (string.Concat(cut.Content.Select(p => p.Text)), cut.FinishReason));
    }

    [Fact]
    public async Task Models_wrong_keys_wrong_models_and_long_prompts()
    {
        OpenAIModel one = await Client().GetOpenAIModelClient().GetModelAsync("m", Stop);
        Assert.Equal("m", one.Id);
        OpenAIModelCollection all = await Client().GetOpenAIModelClient().GetModelsAsync(Stop);
        Assert.Equal("m", Assert.Single(all).Id);
        Assert.Equal(401, (await Fails(Client("wrong").GetChatClient("m"), "hello")).Status);
        Assert.Equal(404, (await Fails(Client().GetChatClient("other"), "hello")).Status);
        var long_ = await Fails(Client().GetChatClient("m"), string.Concat(Enumerable.Repeat("zqx ", 200)));
        Assert.Equal(400, long_.Status);
        Assert.Contains("the context 128", long_.Message);
    }

    private static Task<ClientResultException> Fails(ChatClient client, string text) =>
        Assert.ThrowsAsync<ClientResultException>(() => client.CompleteChatAsync([new UserChatMessage(text)], cancellationToken: Stop));

    private OpenAIClient Client(string key = "key") =>
        new(new ApiKeyCredential(key), new OpenAIClientOptions { Endpoint = new Uri($"{_server.Address}/v1") });
}
