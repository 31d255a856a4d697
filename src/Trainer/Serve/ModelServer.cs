using System.Buffers;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Serve;

/// <summary>An engine behind HTTP, with the routes, fields and errors of OpenAI's API. JSON is written and read by hand: no reflection, and
/// an unknown field can be refused by name.</summary>
public sealed class ModelServer : IAsyncDisposable
{
    private const int ClientGone = 499;
    private const string JsonType = "application/json", ModelsPath = "/v1/models";

    private readonly ServeModel _model;
    private readonly DecodeEngine _engine;
    private readonly ServeOptions _options;
    private readonly ServeRequestReader _reader;
    private readonly ServeMetrics _metrics = new();
    private readonly EngineLoop _loop;
    private readonly WebApplication _app;
    private readonly byte[]? _key;
    private readonly long _started = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
    private readonly CancellationTokenSource _graceOver = new();
    private int _inFlight;
    private volatile bool _stopping;

    private ModelServer(ServeModel model, DecodeEngine engine, ServeOptions options)
    {
        (_model, _engine, _options) = (model, engine, options);
        _key = options.Key is { } key ? SHA256.HashData(Encoding.UTF8.GetBytes(key)) : null;
        _reader = new ServeRequestReader(model, engine.Capacity, options.MaxChoices);
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = options.MaxBodyBytes;
            if (options.Host == "localhost")
            {
                kestrel.Listen(IPAddress.Loopback, options.Port);
            }
            else
            {
                kestrel.Listen(IPAddress.Parse(options.Host), options.Port);
            }
        });
        _app = builder.Build();
        _app.Run(AnswerAsync);
        _loop = new EngineLoop(engine, _metrics, options.MaxSequences);
    }

    /// <summary>The base address, with the port that was taken.</summary>
    public string Address { get; private set; } = "";

    /// <summary>Ends with the engine's exception, if it throws one.</summary>
    public Task<Exception> EngineFailed => _loop.Failed;

    /// <summary>Listens. The engine stays the caller's, who frees it after this server.</summary>
    /// <exception cref="IOException">the port is in use, or the host is not one of this machine</exception>
    public static async Task<ModelServer> StartAsync(ServeModel model, DecodeEngine engine, ServeOptions options)
    {
        var server = new ModelServer(model, engine, options);
        try
        {
            await server._app.StartAsync();
        }
        catch (Exception e)
        {
            await server.DisposeAsync();
            throw e is System.Net.Sockets.SocketException ? new IOException($"{options.Host}:{options.Port} cannot be listened on: {e.Message}", e) : e;
        }

        var addresses = server._app.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>();
        server.Address = addresses.Addresses.Single();
        return server;
    }

    /// <summary>Takes no more requests, lets those in flight finish for the time of grace, then ends their sequences: they get the text so far
    /// with finish_reason "length".</summary>
    public async Task StopAsync()
    {
        _stopping = true;
        var end = DateTime.UtcNow.AddSeconds(_options.GraceSeconds);
        while (Volatile.Read(ref _inFlight) > 0 && DateTime.UtcNow < end && !_loop.Failed.IsCompleted)
        {
            await Task.Delay(20);
        }

        await _graceOver.CancelAsync();
        using var last = new CancellationTokenSource(TimeSpan.FromSeconds(10));      // for a reader that does not take its answer
        await _app.StopAsync(last.Token);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _app.DisposeAsync();
        _loop.Dispose();
        _graceOver.Dispose();
    }

    private static string RouteOf(string path) => path switch
    {
        "/v1/chat/completions" => "chat",
        "/v1/completions" => "completions",
        "/health" => "health",
        "/metrics" => "metrics",
        _ => path == ModelsPath || path.StartsWith(ModelsPath + "/", StringComparison.Ordinal) ? "models" : "other",
    };

    private static async Task WriteAsync(HttpContext context, int status, string type, ReadOnlyMemory<byte> body)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = type;
        context.Response.ContentLength = body.Length;
        await context.Response.BodyWriter.WriteAsync(body);
    }

    private static async Task EventAsync(HttpContext context, ReadOnlyMemory<byte> json)
    {
        var writer = context.Response.BodyWriter;
        writer.Write("data: "u8);
        writer.Write(json.Span);
        writer.Write("\n\n"u8);
        await writer.FlushAsync(context.RequestAborted);
    }

    private async Task AnswerAsync(HttpContext context)
    {
        var path = context.Request.Path.Value ?? "";
        var route = RouteOf(path);
        var counted = route is "chat" or "completions";
        var inFlight = counted ? Interlocked.Increment(ref _inFlight) : 0;
        var status = 500;
        try
        {
            await RouteAsync(context, path, route, inFlight);
            status = context.Response.StatusCode;
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            status = ClientGone;
        }
        catch (IOException) when (context.RequestAborted.IsCancellationRequested)
        {
            status = ClientGone;
        }
        catch (Exception e)
        {
            var error = Refusal(e);
            status = error.Status;
            await RefuseAsync(context, error);
        }
        finally
        {
            _metrics.Count(route, status);
            if (counted)
            {
                Interlocked.Decrement(ref _inFlight);
            }
        }
    }

    /// <summary>What a caller is told: never a stack trace, never a name of the program's own.</summary>
    private ServeException Refusal(Exception e) => e switch
    {
        ServeException refused => refused,
        InvalidInputException => new ServeException(400, e.Message),
        BadHttpRequestException { StatusCode: 413 } =>
            new ServeException(413, $"the body passes {_options.MaxBodyBytes} bytes", null, "body_too_large"),
        BadHttpRequestException bad => new ServeException(bad.StatusCode, "the request is not valid HTTP"),
        _ => new ServeException(500, "the server met an error of its own"),
    };

    private static async Task RefuseAsync(HttpContext context, ServeException error)
    {
        try
        {
            if (context.Response.HasStarted)
            {
                await EventAsync(context, ServeReply.Error(error));         // a stream under way: the error is its last event
                return;
            }

            if (error.Status == 429)
            {
                context.Response.Headers.RetryAfter = "1";
            }

            await WriteAsync(context, error.Status, JsonType, ServeReply.Error(error));
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            // the caller has gone meanwhile: there is nobody to tell
        }
    }

    private async Task RouteAsync(HttpContext context, string path, string route, int inFlight)
    {
        if (route == "other")
        {
            throw new ServeException(404, $"there is no {path} here; see docs/serve.md", null, "not_found");
        }

        var method = route is "chat" or "completions" ? "POST" : "GET";
        if (context.Request.Method != method)
        {
            context.Response.Headers.Allow = method;
            throw new ServeException(405, $"{path} takes {method}, not {context.Request.Method}", null, "method_not_allowed");
        }

        if (route == "health")
        {
            await HealthAsync(context);
            return;
        }

        if (route == "metrics")
        {
            await WriteAsync(context, 200, "text/plain; version=0.0.4; charset=utf-8", Encoding.UTF8.GetBytes(_metrics.Page(_engine.Stats, Volatile.Read(ref _inFlight))));
            return;
        }

        Authorize(context);
        if (route == "models")
        {
            await ModelsAsync(context, path);
            return;
        }

        if (_stopping)
        {
            throw new ServeException(503, "the server is stopping", null, "stopping");
        }

        if (inFlight > _options.MaxRequests)
        {
            throw new ServeException(429, $"{inFlight - 1} requests are in flight, of at most {_options.MaxRequests}; try again later", null, "too_many_requests");
        }

        await CompleteAsync(context, await ReadAsync(context, route == "chat"));
    }

    private async Task HealthAsync(HttpContext context)
    {
        var (status, text) = _loop.Failed.IsCompleted ? (503, "failed") : _stopping ? (503, "stopping") : (200, "ok");
        await WriteAsync(context, status, JsonType, ServeReply.Json(json => json.WriteString("status", text)));
    }

    private void Authorize(HttpContext context)
    {
        const string Scheme = "Bearer ";
        if (_key is null)
        {
            return;
        }

        var header = context.Request.Headers.Authorization.ToString();
        if (!header.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase)
            || !CryptographicOperations.FixedTimeEquals(SHA256.HashData(Encoding.UTF8.GetBytes(header[Scheme.Length..].Trim())), _key))
        {
            context.Response.Headers.WWWAuthenticate = "Bearer";
            throw new ServeException(401, "the API key is missing or wrong", null, "invalid_api_key");
        }
    }

    private async Task ModelsAsync(HttpContext context, string path)
    {
        var id = path.Length > ModelsPath.Length ? Uri.UnescapeDataString(path[(ModelsPath.Length + 1)..]) : null;
        if (id is not null && id != _model.Name)
        {
            throw _reader.NoModel(id);
        }

        await WriteAsync(context, 200, JsonType, ServeReply.Json(json =>
        {
            if (id is not null)
            {
                Describe(json);
                return;
            }

            json.WriteString("object", "list");
            json.WriteStartArray("data");
            json.WriteStartObject();
            Describe(json);
            json.WriteEndObject();
            json.WriteEndArray();
        }));
    }

    private void Describe(Utf8JsonWriter json)
    {
        json.WriteString("id", _model.Name);
        json.WriteString("object", "model");
        json.WriteNumber("created", _started);
        json.WriteString("owned_by", "z1");
        json.WriteNumber("max_model_len", _engine.Capacity);
    }

    private async Task<ServeRequest> ReadAsync(HttpContext context, bool isChat)
    {
        try
        {
            using var json = await JsonDocument.ParseAsync(
                context.Request.Body, new JsonDocumentOptions { AllowDuplicateProperties = false }, context.RequestAborted);
            return _reader.Read(json.RootElement, isChat);
        }
        catch (JsonException e)
        {
            throw new ServeException(400, e.LineNumber is { } line
                ? string.Create(CultureInfo.InvariantCulture, $"the body is not valid JSON at line {line + 1}, byte {e.BytePositionInLine + 1}")
                : "the body is not valid JSON: a name stands twice in an object", null, "invalid_json");
        }
        catch (InvalidOperationException)
        {
            throw new ServeException(400, "the body holds a string that is not valid Unicode", null, "invalid_json");
        }
    }

    private async Task CompleteAsync(HttpContext context, ServeRequest request)
    {
        var group = _loop.Submit(request);
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(_options.TimeoutSeconds));
        using var gone = context.RequestAborted.UnsafeRegister(g => ((SequenceGroup)g!).Cancel(), group);
        using var late = timeout.Token.UnsafeRegister(g => ((SequenceGroup)g!).Cancel(), group);
        using var ended = _graceOver.Token.UnsafeRegister(g => ((SequenceGroup)g!).Cancel(), group);
        var reply = new ServeReply(request, _model.Name);
        var completions = new Completion[request.Prompts.Count * request.Choices];
        try
        {
            if (request.Stream)
            {
                await OpenStreamAsync(context, request, reply, completions.Length);
            }

            await foreach (var (index, update) in group.Updates)
            {
                context.RequestAborted.ThrowIfCancellationRequested();
                if (update.Completion is { } completion)
                {
                    completions[index] = completion;
                    if (completion.Finish == FinishReason.Cancelled && timeout.IsCancellationRequested)
                    {
                        throw new ServeException(504, string.Create(
                            CultureInfo.InvariantCulture, $"the request took longer than {_options.TimeoutSeconds} s"), null, "timeout");
                    }
                }

                if (request.Stream && (update.Text.Length > 0 || update.Completion is not null))
                {
                    await StreamAsync(context, reply, index, update);
                }
            }
        }
        finally
        {
            group.Cancel();           // nobody waits for what is left, if anything is
        }

        if (!request.Stream)
        {
            await WriteAsync(context, 200, JsonType, reply.Body(completions));
            return;
        }

        if (request.IncludeUsage)
        {
            await EventAsync(context, reply.UsageEvent(completions));
        }

        await context.Response.BodyWriter.WriteAsync("data: [DONE]\n\n"u8.ToArray(), context.RequestAborted);
    }

    private static async Task OpenStreamAsync(HttpContext context, ServeRequest request, ServeReply reply, int choices)
    {
        context.Response.ContentType = "text/event-stream";
        context.Response.Headers.CacheControl = "no-cache";
        for (var i = 0; request.IsChat && i < choices; i++)
        {
            await EventAsync(context, reply.Role(i));
        }

        await context.Response.BodyWriter.FlushAsync(context.RequestAborted);
    }

    private static async Task StreamAsync(HttpContext context, ServeReply reply, int index, DecodeUpdate update)
    {
        if (update.Text.Length > 0)
        {
            await EventAsync(context, reply.Delta(index, update.Text, null));
        }

        if (update.Completion is { } completion)
        {
            await EventAsync(context, reply.Delta(index, "", completion.Finish));
        }
    }
}
